"""The nouns of feedback; stdlib and selm words only. What makes an event of a draft is `composing`.

Knows no protobuf, broker or gRPC. The ports at the end are what the back rooms fulfil.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from feedback_svc.signals import Kind, Signal
from selm.lessons import Consent, LessonStep

SERVICE = "feedback_svc"
# What a memory's question may have: every correction becomes one.
MAX_QUESTION_BYTES = 4096


class EventState(IntEnum):
    """What was decided about an event; numbers of the contract."""

    ACCEPTED = 1
    QUARANTINED = 2
    IN_REVIEW = 3
    REJECTED = 4
    ERASED = 5

    @property
    def is_withheld(self) -> bool:
        return self in {EventState.QUARANTINED, EventState.IN_REVIEW}


@dataclass(frozen=True)
class Failure:
    """Why something did not end well; `reason` is a published error reason."""

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    retryable: bool = False
    time: datetime | None = None


@dataclass(frozen=True)
class Finding:
    """One thing the screen found. `kind` is one of the contract's names, e.g. "CREDENTIAL"."""

    kind: str
    field: str
    detail: str


@dataclass(frozen=True)
class Exchange:
    """What was asked and answered. `content` is the whole input, opaque here."""

    content: bytes
    # The last user message or the prompt; empty if there is none.
    question: str
    answer: str


@dataclass(frozen=True)
class GenerationRecord:
    """What is known of the generation that feedback points to."""

    name: str
    user: str
    # Adapter that was selected and revision that took part; empty for the base model.
    adapter: str
    adapter_revision: str
    # None if its text was not to be stored.
    exchange: Exchange | None


@dataclass(frozen=True)
class Draft:
    """One validated request to record a signal: about a generation or a conversation."""

    signal: Signal
    generation: str = ""
    conversation: str = ""
    exchange: Exchange | None = None
    user: str = ""
    adapter: str = ""
    consent: Consent | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    event_time: datetime | None = None
    # Fingerprint of all the caller said: the same again is a repeat, or a duplicate.
    digest: str = ""
    # The only user that its sender may write for; empty if it may for all.
    only_for: str = ""

    @property
    def target(self) -> str:
        return self.generation or self.conversation


@dataclass(frozen=True)
class RequestKey:
    """Identity of a caller's attempt: its request_id and a digest of what it asked for."""

    request_id: str
    digest: str


@dataclass(frozen=True)
class Decision:
    """Who let an event count, or not, and why; `quorum` where its authors did."""

    decider: str
    reason: str
    time: datetime


@dataclass(frozen=True)
class Change:
    """What a decision makes of an event; what is None stays as it is."""

    decision: Decision
    state: EventState | None = None
    signal: Signal | None = None
    reach: Consent | None = None
    # Why it is turned down; an event that is let in has none.
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """An event as recorded. Its exchange stays in the stream; memory holds only what is served."""

    tenant: str
    name: str
    signal: Signal
    generation: str
    conversation: str
    user: str
    adapter: str
    consent: Consent
    labels: Mapping[str, str]
    author: str
    adapter_revision: str
    lesson: str
    event_time: datetime
    create_time: datetime
    # Position in stream FEEDBACK; 0 until the broker gave one. Decisions leave it as it is.
    sequence: int = 0
    state: EventState = EventState.ACCEPTED
    findings: tuple[Finding, ...] = ()
    num_redactions: int = 0
    # Why it was withheld or rejected.
    failure: Failure | None = None
    # How far it reaches now; its consent, or less while too few authors agree.
    reach: Consent = Consent.MEMORY_ONLY
    num_decisions: int = 0
    decision: Decision | None = None
    # What was sent, if a reviewer amended it.
    original: Signal | None = None
    # Whether it was ever withheld, and so is an item of the reviewers.
    was_withheld: bool = False
    digest: str = ""

    @property
    def target(self) -> str:
        return self.generation or self.conversation


@dataclass(frozen=True)
class Erased:
    """What is left of a purged event: enough to tell a repeat of it."""

    name: str
    digest: str
    lesson: str
    author: str
    target: str


@dataclass(frozen=True)
class EventFilter:
    """Conditions on events, all of which must hold; empty ones hold for all."""

    kinds: frozenset[Kind] = frozenset()
    # Empty means all but ERASED.
    states: frozenset[EventState] = frozenset()
    generation: str = ""
    conversation: str = ""
    adapter: str = ""
    adapter_revision: str = ""
    user: str = ""
    author: str = ""
    min_consent: Consent | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    first_sequence: int = 0
    # 0 means the newest.
    last_sequence: int = 0


class Recorder(Protocol):
    """Makes feedback durable, once per request id."""

    async def record(
        self, tenant: str, author: str, draft: Draft, key: RequestKey | None
    ) -> FeedbackRecord: ...

    async def get(self, tenant: str, name: str) -> FeedbackRecord: ...


@dataclass(frozen=True)
class ExportedEvent:
    """An event with its exchange, as one line of an export. `line` is JSON without line break."""

    sequence: int
    line: str


@dataclass(frozen=True)
class EventNews:
    """An event after it was recorded or decided on; a watch goes on behind `position`."""

    record: FeedbackRecord
    position: int


class EventReader(Protocol):
    """Lists and streams what was recorded."""

    async def newest(self, tenant: str) -> int:
        """Sequence of the newest acknowledged event; 0 if there is none."""
        ...

    async def list(
        self, tenant: str, wanted: EventFilter, before: tuple[int, str] | None, limit: int
    ) -> Sequence[FeedbackRecord]:
        """Newest first, those before a sequence and name."""
        ...

    def watch(
        self, tenant: str, wanted: EventFilter, after: int | None
    ) -> AsyncGenerator[EventNews, None]:
        """Changes behind a position; None starts at the present, or at `wanted.first_sequence`."""
        ...

    def export(
        self, tenant: str, wanted: EventFilter, after: int, until: int
    ) -> AsyncGenerator[ExportedEvent, None]:
        """Oldest first, of the sequences behind `after` up to `until`."""
        ...


@dataclass(frozen=True)
class StepNews:
    """A step of a lesson as read from the bus."""

    tenant: str
    lesson: str
    step: LessonStep
