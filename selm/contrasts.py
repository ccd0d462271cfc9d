"""Words that set apart two questions alike in all else: first and last, mother and father.

An embedding hardly tells them apart, so a list does. Knows single words only, no grammar.
"""

import functools
from dataclasses import dataclass
from importlib import resources

from selm.words import normal_words

_FILE = "contrast_words.txt"
_BY_PRESENCE = "!"


@dataclass(frozen=True)
class _Rules:
    # Alternatives of one group exclude each other.
    groups: tuple[tuple[frozenset[str], ...], ...]
    # Each of these makes a difference by being there.
    markers: frozenset[str]


def are_contrasting(one: str, other: str) -> bool:
    """Whether a listed contrast makes these two questions ask for different things."""
    here, there = set(normal_words(one)), set(normal_words(other))
    rules = _rules()
    if here & rules.markers != there & rules.markers:
        return True
    return any(_exclude(group, here, there) for group in rules.groups)


def _exclude(group: tuple[frozenset[str], ...], here: set[str], there: set[str]) -> bool:
    one = {number for number, words in enumerate(group) if words & here}
    other = {number for number, words in enumerate(group) if words & there}
    return bool(one and other) and one.isdisjoint(other)


@functools.cache
def _rules() -> _Rules:
    text = resources.files("selm").joinpath(_FILE).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    markers = {w for line in lines if line.startswith(_BY_PRESENCE) for w in line[1:].split()}
    groups = tuple(
        tuple(frozenset(words.split()) for words in line.split("|"))
        for line in lines
        if not line.startswith(_BY_PRESENCE)
    )
    return _Rules(groups, frozenset(markers))
