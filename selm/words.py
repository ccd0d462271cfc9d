"""Words of a text: how it is cut, normal forms, variants of a word, and which words are plain.

Standard library and two word lists; knows no question (see questions) and no language but English.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import pairwise

# A word: letters and digits, joined inside by ' . - / , & : (don't, 3.5, COVID-19, 1,000, R&D), or
# with signs that change what it names (.NET, C++, F#); else one sign, such as + or ?.
_WORD = re.compile(r"(?:(?<!\w)[.#@$€£-](?=\w))?\w+(?:['.\-/,&:]\w+)*(?:[+#*]+(?!\w))?|[^\w\s]")
_JOINTS = "'.-/,&:"
# Signs that mean something by themselves, as in "2 + 2". All others but pictures are punctuation.
_MEANINGFUL_SIGNS = frozenset("+-*/\\=<>%&@#$€£^~|×÷±≤≥≠√∞°")
_QUOTES = {ord(sign): "'" for sign in "’‘ʼ`´′"} | {ord(sign): '"' for sign in "“”„‟″«»"}
_DASHES = {ord(sign): "-" for sign in "‐‑‒–—―−"}
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_PART = re.compile(r"[-/&]")
# The first groups of the list of describing words: articles, pronouns, auxiliaries and the like.
_NUM_FUNCTION_GROUPS = 7


def spell(text: str) -> str:
    """One spelling of width, quotes and dashes; case is kept."""
    return unicodedata.normalize("NFKC", text).translate(_QUOTES | _DASHES)


def tokens(text: str) -> list[str]:
    """The words and signs of a text as spelled, in order."""
    return _WORD.findall(spell(text))


def normal_words(text: str) -> list[str]:
    """The normal forms of a text's words, in order; punctuation is gone."""
    return [normal for token in tokens(text) if (normal := normal_word(token))]


def normal_word(token: str) -> str:
    """One case, no apostrophe or possessive, no separator of thousands; empty for punctuation."""
    if len(token) == 1 and not token.isalnum():
        keeps = token in _MEANINGFUL_SIGNS or unicodedata.category(token) == "So"
        return token if keeps else ""
    if (bare := token.strip("_")) != token:
        # What joined the underscore to the word goes with it: alone it would be another word.
        bare = bare.strip(_JOINTS + "_")
        return normal_word(bare) if any(map(str.isalnum, bare)) else ""
    if _THOUSANDS.fullmatch(token):
        return token.replace(",", "")
    # Casefolding can undo the composed form; else normalising twice would differ from once.
    folded = unicodedata.normalize("NFKC", token.casefold())
    plain = folded.removesuffix("'s").replace("'", "")
    return plain if plain == plain.strip("_") else normal_word(plain)


def forms(word: str) -> set[str]:
    """A normal word, its likely singulars, and the parts and joined spelling of a compound."""
    plain = _without_accents(word)
    parts = [part for part in _PART.split(plain) if part]
    spellings = {plain, "".join(parts), *parts}
    return spellings | {form for spelling in spellings for form in _singulars(spelling)}


def forms_in(text: str) -> set[str]:
    """All forms of all words of a text, and of neighbours written together (wi fi, wifi)."""
    words = normal_words(text)
    joined = {_without_accents(left + right) for left, right in pairwise(words)}
    return joined.union(*(forms(word) for word in words))


def occurs(word: str, present: set[str]) -> bool:
    """Whether a normal word, or all parts of a compound, are among these forms."""
    plain = _without_accents(word)
    parts = [part for part in _PART.split(plain) if part]
    if ({plain, "".join(parts)} | _singulars(plain)) & present:
        return True
    return len(parts) > 1 and all(part in present for part in parts)


def is_describing(word: str) -> bool:
    """Whether a normal word only asks or describes, as "what", "capital" and "written" do."""
    return word in _describing_words() or (len(word) == 1 and not word.isalnum())


def is_function(word: str) -> bool:
    """Whether a normal word only holds a sentence together, as "the" and "does" do."""
    return word in _function_words()


def is_common(word: str) -> bool:
    """Whether plain English knows a normal word, so that it is hardly a name."""
    return word in _common_words()


def unique(words: Iterable[str]) -> list[str]:
    """Without repeats, in order."""
    return list(dict.fromkeys(words))


def _singulars(word: str) -> set[str]:
    if len(word) < 4 or not word.endswith("s") or word.endswith("ss") or not word.isalpha():
        return set()
    found = {word[:-1]}
    if word.endswith("es"):
        found.add(word[:-2])
    if word.endswith("ies"):
        found.add(word[:-3] + "y")
    return found


@functools.lru_cache(maxsize=4096)
def _without_accents(word: str) -> str:
    decomposed = unicodedata.normalize("NFD", word)
    return "".join(sign for sign in decomposed if not unicodedata.combining(sign))


@functools.cache
def _describing_words() -> frozenset[str]:
    return frozenset(word for group in _groups("question_words.txt") for word in group)


@functools.cache
def _function_words() -> frozenset[str]:
    groups = list(_groups("question_words.txt"))[:_NUM_FUNCTION_GROUPS]
    return frozenset(word for group in groups for word in group)


@functools.cache
def _common_words() -> frozenset[str]:
    return frozenset(word for line in _groups("common_words.txt") for word in line)


def _groups(file_name: str) -> Iterator[list[str]]:
    text = resources.files("selm").joinpath(file_name).read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            yield line.replace("'", "").split()
