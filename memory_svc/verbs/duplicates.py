"""When two memories say the same, so that the second is counted instead of stored. Pure rules.

Strict on purpose: what is folded is not kept, so nothing that could be another statement is folded.
An embedding cannot tell "Ana manages Ben" from "Ben manages Ana", nor notice one "not" in a long
text, so words decide and the cosine only confirms.
"""

from datetime import datetime

from memory_svc.core import LIVE_STATES, Memory
from selm import questions, words

# Words that change nothing by being there or not.
_FILLERS = frozenset(("a", "an", "the", "that", "please"))
# "A few" is some, "few" is hardly any.
_AMOUNTS = frozenset(("few", "little", "lot", "bit"))


def is_same_kind(draft: Memory, memory: Memory, now: datetime) -> bool:
    """Whether a memory lives as long and holds for the same time, so that only the text counts."""
    return (
        memory.type is draft.type
        and memory.state_at(now) in LIVE_STATES
        and memory.expire_time == draft.expire_time
        and memory.valid_start_time == draft.valid_start_time
        and memory.valid_end_time == draft.valid_end_time
    )


def is_same_answer(one: str, other: str) -> bool:
    """To the letter but for an article before it and a full stop after it: a correction of case or
    of a sign in a line of code is a correction."""
    is_same_form = questions.normalise_answer(one) == questions.normalise_answer(other)
    return is_same_form and _bare(one) == _bare(other)


def is_agreement(draft: Memory, memory: Memory) -> bool:
    """Whether two authors taught the same. Each keeps a memory of his own, so that what one said
    still stands when the other's word is taken back, deleted or erased."""
    return (
        memory.state in LIVE_STATES
        and bool(draft.lesson and memory.lesson)
        and draft.author != memory.author
        and is_same_answer(draft.text, memory.text)
    )


def is_same_statement(one: str, other: str) -> bool:
    """The same words in the same order; one of the texts may have a filler where the other has
    none. Case, punctuation and spacing aside."""
    if words.normal_words(one) == words.normal_words(other):
        return True
    here, there = _marked_words(one), _marked_words(other)
    i = j = 0
    while i < len(here) or j < len(there):
        left = here[i] if i < len(here) else ("", False)
        right = there[j] if j < len(there) else ("", False)
        if left[0] == right[0]:
            i, j = i + 1, j + 1
        elif left[1] and not right[1]:
            i += 1
        elif right[1] and not left[1]:
            j += 1
        else:
            return False
    return True


def _bare(answer: str) -> str:
    """Without an article before it and a full stop after it."""
    text = answer.strip()
    first, _, rest = text.partition(" ")
    text = rest.lstrip() if first.casefold() in ("the", "a", "an") and rest.strip() else text
    return text[:-1] if text.endswith(".") and not text.endswith("..") else text


def _marked_words(text: str) -> list[tuple[str, bool]]:
    """Normal words, each with whether it is a filler where it stands."""
    found = [(token, word) for token in words.tokens(text) if (word := words.normal_word(token))]
    marked = []
    for index, (token, word) in enumerate(found):
        following = found[index + 1][1] if index + 1 < len(found) else ""
        # A capital inside a sentence is a name: vitamin A, plan A.
        is_plain = token.islower() or index == 0
        counts_something = word == "a" and (following in _AMOUNTS or len(following) < 2)
        marked.append((word, word in _FILLERS and is_plain and not counts_something))
    return marked
