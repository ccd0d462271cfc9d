"""What was said, what was answered and what is stored: the facts that a history consists of.

Plain data, no protobuf, broker or gRPC; the checker judges it.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True)
class Content:
    """All of an event that its sender chose."""

    user: str
    # `generations/...` or `conversations/...`.
    target: str
    # "rating 3.5 of 5" or "correction <question> -> <text>".
    signal: str


@dataclass(frozen=True)
class Saying:
    """One event that a client wants to have recorded, under one request_id for all attempts.

    A client's sayings are numbered in the order in which it says them.
    """

    client: int
    number: int
    request_id: str
    content: Content

    @property
    def label(self) -> str:
        """Travels in the event's labels, so that an event without answer is recognised too."""
        return f"{self.client}-{self.number}"


@dataclass(frozen=True)
class Answer:
    """What OK said."""

    name: str
    sequence: int
    lesson: str = ""


class Outcome(Enum):
    OK = "ok"
    # Refused for good: nothing may be stored.
    FAIL = "fail"
    # UNAVAILABLE or DEADLINE_EXCEEDED: stored or not.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Attempt:
    """One call and how it ended; times in seconds of one clock."""

    label: str
    began: float
    ended: float
    outcome: Outcome
    answer: Answer | None = None
    reason: str = ""


@dataclass(frozen=True)
class Stored:
    """One creation as the broker holds it in stream FEEDBACK."""

    sequence: int
    subject: str
    name: str
    label: str
    content: Content


@dataclass
class History:
    """Grows while the clients speak."""

    sayings: dict[str, Saying] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    acknowledged: dict[str, Answer] = field(default_factory=dict)

    def begin(self, saying: Saying) -> None:
        self.sayings[saying.label] = saying

    def add(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        if attempt.answer is not None:
            self.acknowledged.setdefault(attempt.label, attempt.answer)

    def num_of(self, outcome: Outcome) -> int:
        return Counter(attempt.outcome for attempt in self.attempts)[outcome]
