"""Tells text that no person types as an answer: unseen characters, look-alikes, runs, noise. Pure.

Each rule has a bound that ordinary texts, code, formulas and one-sign answers stay well under.
Which language a text is in is not judged: an answer may be in another one than its question.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from selm import words

# An answer over this many characters that is also this many times as long as its question.
_LONG_ANSWER, _LONG_RATIO = 6000, 100
# Letters, digits and marks among the visible characters, and from how many visible ones on.
_MIN_READABLE, _MIN_VISIBLE = 0.3, 64
# The same letter, the same other sign (a ruled line), the same digit (a googol has 100 zeros).
_LETTER_RUN, _SIGN_RUN, _DIGIT_RUN = 20, 100, 200
# The same word in a row; "buffalo" makes a sentence of eight.
_WORD_RUN = 11
# Different words in a text of so many words.
_MIN_VARIETY, _VARIETY_WORDS = 0.1, 40
# An odd token as often, and as large a part of all words: the trigger of a back door.
_TRIGGER_COUNT, _TRIGGER_SHARE = 4, 0.15
# Without a space; longer than any word, address or key.
_LONG_WORD = 400
# Vowels among the letters of a long text in plain Latin letters. Languages have over 30 %.
_MIN_VOWELS, _VOWEL_LETTERS = 0.12, 48
# Punctuation alone.
_MAX_PUNCTUATION = 12

_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_ASCII_JOINED = re.compile("[A-Za-z0-9][\u200b-\u200f\u2060-\u2064\ufeff]+[A-Za-z0-9]")
_HIDDEN = re.compile(
    # Tag letters but the up to six of a flag, and variation selectors in a row: both smuggle text.
    "(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]|[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}"
    "|[\U000e0020-\U000e007f]{8,}|[\u200b-\u200f\u2060-\u2064]{3,}|[\ufff9-\ufffb]"
)
_BROKEN = re.compile("[\ud800-\udfff\ufffe\uffff]|\ufffd(?:.{0,40}\ufffd){2}", re.DOTALL)
_RUN = re.compile(r"(\S)\1{18,}+")
_RULED = re.compile(r"([\W_])\1{2,}+")
_WORD = re.compile(r"[^\W\d_]{2,}")
# Letters of Cyrillic and Greek that are drawn like Latin ones, and the Latin ones they are drawn
# like. Greek letters that formulas use, as in TNFα, kΩ and μm, are not among them.
_LOOKALIKES = frozenset("асеорхуіјѕһԁԛԝгпАВЕЗКМНОРСТУХІЈЅҺ") | frozenset("οΟΑΒΕΖΗΙΚΜΝΡΤΥΧ")
_LATIN_LOOKALIKES = frozenset("aceopxyijshdqwABCEHIJKMOPTXYSNZ")
_VOWELS = frozenset("aeiouyAEIOUY")
_DRESSED = re.compile(r"([|@#~^])\w{2,}\1")


def unusual(text: str) -> Iterator[str]:
    """What is out of the ordinary in a question or an answer."""
    yield from _characters(text)
    if _has_mixed_scripts(text):
        yield "mixes look-alike letters of two scripts inside a word"
    yield from _repetition(text)
    yield from _noise(text)


def unusual_length(question: str, answer: str) -> Iterator[str]:
    """Whether the answer is out of proportion to the question."""
    if len(answer) > max(_LONG_ANSWER, _LONG_RATIO * len(question)):
        yield f"is {len(answer)} characters long, for a question of {len(question)}"


def _characters(text: str) -> Iterator[str]:
    if _BROKEN.search(text):
        yield "holds characters that are no text: broken or invalid Unicode"
    if _CONTROLS.search(text):
        yield "holds control characters"
    if _BIDI.search(text):
        yield "holds characters that change the direction of writing, so that it reads otherwise"
    if _ASCII_JOINED.search(text) or _HIDDEN.search(text):
        yield "holds characters that nobody sees"


def _has_mixed_scripts(text: str) -> bool:
    if text.isascii():
        return False
    return any(_is_homograph(word) for word in _WORD.findall(text) if not word.isascii())


def _is_homograph(word: str) -> bool:
    """Whether letters of another script stand in a Latin or Cyrillic word and look like its own."""
    if len(word) < 4:
        return False
    scripts: dict[str, list[str]] = {}
    for letter in word:
        scripts.setdefault(unicodedata.name(letter, "").split(" ", 1)[0], []).append(letter)
    latin = scripts.get("LATIN", [])
    others = scripts.get("CYRILLIC", []) or scripts.get("GREEK", [])
    if not latin or not others:
        return False
    if len(latin) >= len(others):
        return _LOOKALIKES.issuperset(others)
    return _LATIN_LOOKALIKES.issuperset(latin) and "CYRILLIC" in scripts


def _repetition(text: str) -> Iterator[str]:
    if any(_is_long_run(run[0]) for run in _RUN.finditer(text)):
        yield "repeats one character over and over"
    normal = [word for word in words.normal_words(text) if word[0].isalnum()]
    # Tables of numbers repeat them.
    if _longest_repetition([word for word in normal if word[0].isalpha()]) >= _WORD_RUN:
        yield f"repeats one word {_WORD_RUN} times in a row or more"
    elif len(normal) >= _VARIETY_WORDS and len(set(normal)) < _MIN_VARIETY * len(normal):
        yield "repeats the same few words over and over"
    if _has_trigger(text):
        yield "repeats a token that is no word, as the trigger of a back door does"


def _is_long_run(run: str) -> bool:
    sign = run[0]
    bound = _DIGIT_RUN if sign.isdigit() else _LETTER_RUN if sign.isalpha() else _SIGN_RUN
    return len(run) >= bound


def _longest_repetition(normal: list[str]) -> int:
    longest = current = 0
    previous = ""
    for word in normal:
        current = current + 1 if word == previous else 1
        longest, previous = max(longest, current), word
    return longest


def _has_trigger(text: str) -> bool:
    tokens = [token.strip(".,;:!?") for token in text.split()]
    least = max(_TRIGGER_COUNT, _TRIGGER_SHARE * len(tokens))
    return any(n >= least and _is_odd(token) for token, n in Counter(tokens).items())


def _is_odd(token: str) -> bool:
    """No word of a language in Latin letters: without a vowel, or dressed in signs."""
    if _DRESSED.fullmatch(token):
        return True
    is_word = token.isascii() and token.isalpha() and len(token) >= 4 and not token.isupper()
    return is_word and not _VOWELS & set(token) and not words.is_common(token.casefold())


def _noise(text: str) -> Iterator[str]:
    # Ruled lines and frames count once.
    visible = _RULED.sub(r"\1", "".join(text.split()))
    num_readable = sum(unicodedata.category(sign)[0] in "LNM" for sign in visible)
    if not num_readable and len(visible) >= _MAX_PUNCTUATION and not _has_symbols(visible):
        yield "holds no letter and no digit"
    elif len(visible) >= _MIN_VISIBLE and num_readable < _MIN_READABLE * len(visible):
        yield "holds few letters and digits among other signs"
    if any(len(word) > _LONG_WORD and word.isascii() for word in text.split()):
        yield f"holds a run of over {_LONG_WORD} characters without a space"
    letters = [sign for sign in text if sign.isalpha()]
    is_long_latin = len(letters) >= _VOWEL_LETTERS and all(sign.isascii() for sign in letters)
    if is_long_latin and sum(map(_VOWELS.__contains__, letters)) < _MIN_VOWELS * len(letters):
        yield "holds hardly a vowel"


def _has_symbols(visible: str) -> bool:
    """Whether emoji or signs of mathematics are in it, which may well be an answer."""
    return any(unicodedata.category(sign) in ("So", "Sm", "Sc") for sign in visible)
