"""One rule of redaction: what it looks for, and whether what it found is meant. Pure.

A pattern finds candidates cheaply; a check with a sum, a list or the context decides.
"""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass

_DIGIT = re.compile(r"\d")
# What takes the place of a finding; no rule finds it again.
MARK = re.compile(r"\[[A-Z]+(?:_[A-Z]+)*\]")


def mark(kind: str) -> str:
    return f"[{kind}]"


def _whole(found: re.Match[str]) -> tuple[int, int] | None:
    return found.span()


class Glance:
    """What one look at a text tells, so that most rules need not read it: ordinary text has few
    digits, no @ and no word for a password."""

    def __init__(self, text: str) -> None:
        self._folded = text.casefold()
        self.num_digits = (
            sum(map(text.count, string.digits)) if text.isascii() else len(_DIGIT.findall(text))
        )

    def holds_one_of(self, words: tuple[str, ...]) -> bool:
        return any(word in self._folded for word in words)


@dataclass(frozen=True)
class Rule:
    """`kind` names the mark. `span` says which part of a candidate goes, None for none of it."""

    kind: str
    pattern: re.Pattern[str]
    span: Callable[[re.Match[str]], tuple[int, int] | None] = _whole
    # Every candidate holds one of these, case aside, and so many digits.
    needs: tuple[str, ...] = ()
    min_digits: int = 0

    def may_hold(self, glance: Glance) -> bool:
        """False if a text of this look has no candidate."""
        if glance.num_digits < self.min_digits:
            return False
        return not self.needs or glance.holds_one_of(self.needs)

    def replace(self, text: str) -> tuple[str, int]:
        """The text with every finding replaced by the mark, and how many there were."""
        pieces: list[str] = []
        copied = position = 0
        while found := self.pattern.search(text, position):
            span = self.span(found)
            if span is None:
                # Another candidate may start inside of this one.
                position = found.start() + 1
                continue
            start, end = span
            pieces += text[copied:start], mark(self.kind)
            copied = position = end
        if not pieces:
            return text, 0
        return "".join((*pieces, text[copied:])), len(pieces) // 2


def group(name: str) -> Callable[[re.Match[str]], tuple[int, int] | None]:
    """Only this group of a candidate goes, unless it is a mark or empty."""

    def span(found: re.Match[str]) -> tuple[int, int] | None:
        is_done = not found[name] or MARK.fullmatch(found[name])
        return None if is_done else found.span(name)

    return span
