"""The nouns of dead letters: what a consumer gave up on, and what a person did about it.

Knows no protobuf, broker or gRPC.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from feedback_svc.core import Failure, RequestKey
from feedback_svc.signals import Kind
from selm import names


class LetterState(StrEnum):
    """What became of a dead letter."""

    OPEN = "OPEN"
    REPLAYED = "REPLAYED"
    DISCARDED = "DISCARDED"


@dataclass(frozen=True)
class LetterVerdict:
    """What a person decided."""

    state: LetterState
    who: str
    reason: str
    time: datetime


@dataclass(frozen=True)
class DeadLetter:
    """A message that a consumer gave up on; what it carried is read again when it is needed."""

    tenant: str
    letter_id: str
    stream: str
    subject: str
    sequence: int
    consumer: str
    message_type: str
    num_deliveries: int
    failure: Failure
    create_time: datetime
    # What it was about, empty where unknown.
    adapter: str = ""
    request: str = ""
    lesson: str = ""
    kind: Kind | None = None
    verdict: LetterVerdict | None = None

    @property
    def name(self) -> str:
        return names.format_name(names.DEAD_LETTER, self.letter_id)

    @property
    def state(self) -> LetterState:
        return self.verdict.state if self.verdict else LetterState.OPEN

    @property
    def update_time(self) -> datetime:
        return self.verdict.time if self.verdict else self.create_time

    def after(self, verdict: LetterVerdict) -> "DeadLetter":
        return replace(self, verdict=verdict)


@dataclass(frozen=True)
class LetterFilter:
    """Conditions on dead letters; no state means OPEN."""

    states: frozenset[LetterState] = frozenset({LetterState.OPEN})
    stream: str = ""


@dataclass(frozen=True)
class Redelivery:
    """Recorded feedback to be delivered once more to the consumer of a service."""

    first_sequence: int
    # 0 means the newest.
    last_sequence: int
    consumer: str


class DeadLetters(Protocol):
    """Shows dead letters and carries out what a person decides."""

    async def list(
        self, tenant: str, wanted: LetterFilter, before: tuple[datetime, str] | None, limit: int
    ) -> list[DeadLetter]:
        """Newest first, those before a time and name."""
        ...

    async def replay(
        self, tenant: str, who: str, letters: tuple[str, ...], key: RequestKey | None
    ) -> int:
        """Deliver again what these hold, all open ones if none is named; how many were."""
        ...

    async def discard(
        self, tenant: str, who: str, letters: tuple[str, ...], reason: str, key: RequestKey | None
    ) -> int: ...

    async def replay_events(self, tenant: str, wanted: Redelivery, key: RequestKey | None) -> int:
        """Deliver recorded feedback again; how many messages."""
        ...
