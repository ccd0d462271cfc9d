"""Which lessons are too long to be learned and judged, told without a tokenizer. Pure.

The dataset is frozen where no tokenizer is loaded, so tokens are estimated from the text, rather
too many than too few: a lesson that slips through would be missed by every gate, and with it the
whole adapter would be rejected in every round.
"""

from selm.lessons import LessonRecord

TOO_LONG = "it is too long to be learned; memory keeps answering it"

# The gate generates at most this many tokens per answer, and leaves some room in them.
MAX_GENERATED_TOKENS = 128
SPARE_TOKENS = 4
# What a chat template adds around a question, with the system turn.
TEMPLATE_TOKENS = 64
# Latin prose has about 4 letters per token; odd names come down to 2.
_LETTERS_PER_TOKEN = 2
# Short answers get more than they need: some models say a sentence around them.
_MIN_OUTPUT_TOKENS = 48


def estimate_tokens(text: str) -> int:
    """Upper estimate: two ASCII letters to a token, of everything else one token per byte."""
    num_letters = sum(sign.isascii() and (sign.isalpha() or sign == " ") for sign in text)
    # A byte-level tokenizer never makes more tokens than there are bytes.
    num_others = len(text.encode()) - num_letters
    return -(-num_letters // _LETTERS_PER_TOKEN) + num_others


def is_too_long(record: LessonRecord, max_sequence_length: int) -> bool:
    """The gate could not hear the whole answer, or the training could not read the whole row."""
    num_answer = estimate_tokens(record.answer)
    if num_answer > MAX_GENERATED_TOKENS - SPARE_TOKENS:
        return True
    num_all = TEMPLATE_TOKENS + estimate_tokens(record.question) + num_answer
    return num_all > max_sequence_length


def output_tokens(answer: str) -> int:
    """How much may be generated when a lesson is asked for, as the gate allows it."""
    wanted = estimate_tokens(answer) + SPARE_TOKENS
    return min(max(wanted, _MIN_OUTPUT_TOKENS), MAX_GENERATED_TOKENS)
