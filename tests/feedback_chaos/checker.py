"""Judges a history against what stream FEEDBACK holds after all faults are healed. Pure.

    lost       acknowledged, and not stored
    doubled    two creations of one saying, or of one name
    invented   nobody said it
    altered    stored with other content than was said, or refused and stored all the same
    unequal    two OKs for one request_id differ, or differ from the stream, in name or sequence
    reordered  see below
    refused    a client heard a definite no, where every saying is allowed

Order: a client speaks for one user, whose events have one subject, and says the next thing only
after an OK for the one before. When its saying n is acknowledged, n is stored and n + 1 was never
sent. So on each subject the creations stand in the order of the sayings' numbers, and that holds
for those of unknown outcome too, since only the last one of a client may have no OK.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from tests.feedback_chaos.history import Answer, History, Outcome, Stored

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Violation:
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def check(history: History, stored: Sequence[Stored]) -> list[Violation]:
    """Everything that is wrong, in words; empty if the promise was kept."""
    in_order = sorted(stored, key=lambda event: event.sequence)
    return [
        *_lost(history, in_order),
        *_doubled(in_order),
        *_invented_or_altered(history, in_order),
        *_unequal(history, in_order),
        *_reordered(history, in_order),
        *_refused(history),
    ]


def _lost(history: History, stored: Sequence[Stored]) -> Iterator[Violation]:
    names = {event.name for event in stored}
    for label, answer in history.acknowledged.items():
        if answer.name not in names:
            yield Violation("lost", f"{label} was acknowledged as {answer}")


def _doubled(stored: Sequence[Stored]) -> Iterator[Violation]:
    for kind, groups in (
        ("name", _grouped((event.name, event) for event in stored)),
        ("saying", _grouped((event.label, event) for event in stored)),
    ):
        for key, events in groups.items():
            if len(events) > 1:
                places = [event.sequence for event in events]
                yield Violation("doubled", f"{kind} {key} is stored at {places}")


def _invented_or_altered(history: History, stored: Sequence[Stored]) -> Iterator[Violation]:
    refused = {attempt.label for attempt in history.attempts if attempt.outcome is Outcome.FAIL}
    for event in stored:
        saying = history.sayings.get(event.label)
        if saying is None:
            yield Violation("invented", f"{event.name} at {event.sequence}, {event.content}")
        elif saying.content != event.content:
            yield Violation("altered", f"{event.label}: {saying.content} became {event.content}")
        elif event.label in refused - history.acknowledged.keys():
            yield Violation("altered", f"{event.label} was refused and is stored")


def _unequal(history: History, stored: Sequence[Stored]) -> Iterator[Violation]:
    places = {event.label: event for event in reversed(stored)}
    for label, answers in _answers(history).items():
        if len(set(answers)) > 1:
            yield Violation("unequal", f"{label} was answered {sorted(set(answers), key=str)}")
        event, first = places.get(label), answers[0]
        if event and (event.name, event.sequence) != (first.name, first.sequence):
            yield Violation("unequal", f"{label} was answered {first}, stored as {event}")


def _answers(history: History) -> dict[str, list[Answer]]:
    return _grouped((one.label, one.answer) for one in history.attempts if one.answer is not None)


def _reordered(history: History, stored: Sequence[Stored]) -> Iterator[Violation]:
    known = [event for event in stored if event.label in history.sayings]
    for subject, events in _grouped((event.subject, event) for event in known).items():
        sayings = [history.sayings[event.label] for event in events]
        if len({saying.client for saying in sayings}) > 1:
            yield Violation("reordered", f"{subject} holds the words of several clients")
        for before, after in pairwise(sayings):
            if before.number > after.number:
                yield Violation("reordered", f"{before.label} stands before {after.label}")


def _refused(history: History) -> Iterator[Violation]:
    for attempt in history.attempts:
        if attempt.outcome is Outcome.FAIL:
            yield Violation("refused", f"{attempt.label}: {attempt.reason}")


def _grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    groups: dict[Key, list[Value]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups
