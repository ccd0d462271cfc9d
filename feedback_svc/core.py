"""The nouns of feedback and the rules that make an event of a request; stdlib and selm words only.

Knows no protobuf, broker or gRPC. The ports at the end are what the back room `stream` fulfils.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from selm import names
from selm.errors import FieldViolation, InvalidFields, SelmError
from selm.lessons import Consent, LessonStep
from selm.questions import normalise

SERVICE = "feedback_svc"
# What a memory's question may have: every correction becomes one.
MAX_QUESTION_BYTES = 4096


class Kind(IntEnum):
    """Which signal an event carries."""

    THUMBS = 1
    RATING = 2
    CORRECTION = 3


class Thumbs(IntEnum):
    """Approval or disapproval."""

    UP = 1
    DOWN = 2


@dataclass(frozen=True)
class Rating:
    """A number from 0 to max_value."""

    value: float
    max_value: float


@dataclass(frozen=True)
class Correction:
    """What should have been answered."""

    text: str
    question: str = ""
    paraphrases: tuple[str, ...] = ()


Signal = Thumbs | Rating | Correction


def kind_of(signal: Signal) -> Kind:
    if isinstance(signal, Correction):
        return Kind.CORRECTION
    return Kind.RATING if isinstance(signal, Rating) else Kind.THUMBS


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
    """One validated request to record a signal."""

    generation: str
    signal: Signal
    exchange: Exchange | None = None
    user: str = ""
    adapter: str = ""
    consent: Consent | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    event_time: datetime | None = None


@dataclass(frozen=True)
class RequestKey:
    """Identity of a caller's attempt: its request_id and a digest of what it asked for."""

    request_id: str
    digest: str


@dataclass(frozen=True)
class FeedbackRecord:
    """An event as recorded. Its exchange stays in the stream; memory holds only what is served."""

    tenant: str
    name: str
    generation: str
    signal: Signal
    user: str
    adapter: str
    consent: Consent
    labels: Mapping[str, str]
    author: str
    adapter_revision: str
    lesson: str
    event_time: datetime
    create_time: datetime
    # Position in stream FEEDBACK; 0 until the broker gave one.
    sequence: int = 0


def event_id(tenant: str, request_id: str) -> str:
    """The same request gives the same id, in every process and after every crash."""
    if not request_id:
        return names.new_id()
    return _digest(tenant, "feedback_event", request_id)


def lesson_id(event: str) -> str:
    """The lesson that a feedback event becomes."""
    return _digest("lesson", event)


def compose(
    tenant: str,
    author: str,
    event: str,
    draft: Draft,
    generation: GenerationRecord,
    default_consent: Consent,
    now: datetime,
) -> tuple[FeedbackRecord, Exchange]:
    """The event that a draft becomes, defaults filled in from the generation it is about."""
    exchange = generation.exchange or draft.exchange
    if exchange is None:
        raise SelmError(
            "GENERATION_NOT_STORED",
            f"the text of {draft.generation} was not stored: send the exchange with the feedback",
            metadata={"generation": draft.generation},
        )
    signal = _completed(draft.signal, exchange)
    is_lesson = isinstance(signal, Correction)
    record = FeedbackRecord(
        tenant=tenant,
        name=names.feedback_event_name(event),
        generation=draft.generation,
        signal=signal,
        user=draft.user or generation.user or names.ANONYMOUS_USER,
        adapter=draft.adapter or generation.adapter or names.DEFAULT_ADAPTER,
        consent=draft.consent or default_consent,
        labels=draft.labels,
        author=author,
        adapter_revision=generation.adapter_revision,
        lesson=names.lesson_name(lesson_id(event)) if is_lesson else "",
        event_time=draft.event_time or now,
        create_time=now,
    )
    return record, exchange


def _completed(signal: Signal, exchange: Exchange) -> Signal:
    """A correction with the question it answers; refused if it teaches nothing."""
    if not isinstance(signal, Correction):
        return signal
    question = signal.question or exchange.question
    field_name = "feedback_event.correction.question"
    if not question.strip():
        raise InvalidFields([FieldViolation(field_name, "required: the input has no user message")])
    if len(question.encode()) > MAX_QUESTION_BYTES:
        # Taken from the input, which may be a whole document; wire.py has bounded a given one.
        advice = f"the input's is over {MAX_QUESTION_BYTES} bytes: give a shorter question here"
        raise InvalidFields([FieldViolation(field_name, advice)])
    if normalise(signal.text) == normalise(exchange.answer):
        raise SelmError(
            "FEEDBACK_WITHOUT_CHANGE",
            "the correction equals the answer that was given",
            metadata={"signal": "correction"},
        )
    return Correction(signal.text, question, signal.paraphrases)


class Recorder(Protocol):
    """Makes feedback durable, once per request id."""

    async def record(
        self, tenant: str, author: str, draft: Draft, key: RequestKey | None
    ) -> FeedbackRecord: ...

    async def get(self, tenant: str, name: str) -> FeedbackRecord: ...


@dataclass(frozen=True)
class StepNews:
    """A step of a lesson as read from the bus."""

    tenant: str
    lesson: str
    step: LessonStep


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
