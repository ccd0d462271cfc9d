"""What a correction has become: its states, its record, and what an adapter still learns from.

Knows no protobuf and no broker (see lesson_events). Which step may follow which is in lesson_fold.
Shared by feedback_svc, which serves lessons, and trainer_svc, which freezes datasets from them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum


class LessonState(StrEnum):
    """RECEIVED -> REMEMBERED -> QUEUED -> TRAINED -> VERIFIED -> RETIRED is the straight way."""

    RECEIVED = "RECEIVED"
    QUARANTINED = "QUARANTINED"
    REMEMBERED = "REMEMBERED"
    QUEUED = "QUEUED"
    TRAINED = "TRAINED"
    VERIFIED = "VERIFIED"
    RETIRED = "RETIRED"
    SUPERSEDED = "SUPERSEDED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    ERASED = "ERASED"


class Consent(IntEnum):
    """How far a feedback may reach; a higher value includes the lower ones."""

    MEMORY_ONLY = 1
    PRIVATE_ADAPTER = 2
    SHARED_ADAPTER = 3


_S = LessonState
FINAL = frozenset({_S.SUPERSEDED, _S.REJECTED, _S.FAILED, _S.ERASED})
# The weights carry it, or nothing ever will: a watcher has seen all there is.
SETTLED = FINAL | {_S.RETIRED}


@dataclass(frozen=True)
class LessonStep:
    """One step of a lesson, as some service took it."""

    state: LessonState
    service: str
    resource: str
    reason: str
    time: datetime


@dataclass(frozen=True)
class LessonRecord:
    """One lesson after its steps so far."""

    tenant: str
    name: str
    feedback_event: str
    # Position of the teaching event in stream FEEDBACK: newer lessons have higher ones.
    sequence: int
    generation: str
    user: str
    author: str
    # Empty where consent allows no training.
    adapter: str
    consent: Consent
    question: str
    answer: str
    paraphrases: tuple[str, ...]
    subject_key: str
    create_time: datetime
    update_time: datetime
    state: LessonState = LessonState.RECEIVED
    memory: str = ""
    training_request: str = ""
    training_job: str = ""
    dataset: str = ""
    evaluation: str = ""
    adapter_revision: str = ""
    superseded_by: str = ""
    # Why it is QUARANTINED, REJECTED or FAILED, else why the last try did not make it.
    failure: str = ""
    # Decisions on the event that teaches it; each may change what it teaches.
    num_decisions: int = 0
    transitions: tuple[LessonStep, ...] = ()

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def is_settled(self) -> bool:
        return self.state in SETTLED

    @property
    def is_live(self) -> bool:
        """It counts: neither ended nor withheld."""
        return not self.is_final and self.state is not _S.QUARANTINED

    @property
    def may_train(self) -> bool:
        """Its consent covers an adapter of the tenant."""
        return bool(self.adapter) and self.consent >= Consent.SHARED_ADAPTER


def live_lessons(records: Iterable[LessonRecord], adapter: str) -> list[LessonRecord]:
    """What the adapter is to know: the newest lesson of each subject key, by age."""
    newest: dict[str, LessonRecord] = {}
    for record in sorted(records, key=lambda record: record.sequence):
        if record.adapter == adapter and record.may_train and record.is_live:
            newest.pop(record.subject_key, None)
            newest[record.subject_key] = record
    return list(newest.values())
