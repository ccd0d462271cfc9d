"""The nouns of the work: training job, attempt, progress, order and frozen dataset.

Knows neither NATS, gRPC nor torch. Ids are bare here; names are made at the border.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from trainer_svc.core import Failure, LoraShape, now


class Start(StrEnum):
    """Where training starts from."""

    SERVING = "SERVING"
    BASE = "BASE"


class JobState(StrEnum):
    """Life of a training job."""

    QUEUED = "QUEUED"
    PREPARING = "PREPARING"
    TRAINING = "TRAINING"
    EVALUATING = "EVALUATING"
    PUBLISHING = "PUBLISHING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """No state follows."""
        return self in _FINAL


_FINAL = frozenset({JobState.SUCCEEDED, JobState.REJECTED, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True)
class TrainingConfig:
    """What a job does; the optimiser part mirrors the recipe it was made from."""

    lora: LoraShape = field(default_factory=LoraShape)
    learning_rate: float = 0.0
    max_epochs: int = 0
    batch_size: int = 0
    max_sequence_length: int = 0
    warmup_steps: int = 0
    max_gradient_norm: float = 0.0
    seed: int = 0
    kl_weight: float = 0.0


@dataclass(frozen=True)
class Progress:
    """How training goes, as last measured."""

    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    loss: float = 0.0
    kl: float = 0.0
    learning_rate: float = 0.0
    tokens_per_second: float = 0.0
    token_accuracy: float = 0.0
    remaining_s: float = 0.0
    memory_bytes: int = 0
    measure_time: datetime = field(default_factory=now)


@dataclass(frozen=True)
class Attempt:
    """One try of a job on one worker. `lease_epoch` is its fencing token."""

    number: int
    worker: str
    lease_epoch: int
    start_time: datetime
    peak_memory_bytes: int = 0
    failure: Failure | None = None
    end_time: datetime | None = None


@dataclass(frozen=True)
class Order:
    """A training request as it came from the queue."""

    tenant: str
    request_id: str
    adapter_id: str
    from_base: bool = False
    # Largest share of the dataset from one author; 0 is no limit.
    max_author_share: float = 0.0


@dataclass(frozen=True)
class TrainingJob:
    """One training of one adapter, from queue to verdict."""

    tenant: str
    job_id: str
    adapter_id: str
    request_id: str
    state: JobState
    create_time: datetime
    update_time: datetime
    from_base: bool = False
    max_author_share: float = 0.0
    config: TrainingConfig = field(default_factory=TrainingConfig)
    start: Start | None = None
    start_reason: str = ""
    parent_revision_id: str = ""
    dataset_id: str = ""
    max_attempts: int = 3
    max_duration_s: float = 3600.0
    progress: Progress | None = None
    attempts: tuple[Attempt, ...] = ()
    evaluation_id: str = ""
    output_revision_id: str = ""
    failure: Failure | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def is_held(self) -> bool:
        """A worker is at it, or died at it."""
        return bool(self.attempts) and self.attempts[-1].end_time is None

    @property
    def lease_epoch(self) -> int:
        """Fencing token in force; 0 before the first attempt."""
        return self.attempts[-1].lease_epoch if self.attempts else 0

    @property
    def num_spent_attempts(self) -> int:
        """Attempts that count; one that ended because its worker was shut down does not."""
        return sum(1 for a in self.attempts if a.failure is None or a.failure.reason != "DRAINING")


@dataclass(frozen=True)
class DatasetLesson:
    """One lesson of a frozen dataset. `is_new`: not yet proven by an earlier revision.

    `is_trained` is false for a lesson the parent's weights hold that is asked by the gate only.
    """

    lesson_id: str
    feedback_event_id: str
    question: str
    answer: str
    paraphrases: tuple[str, ...] = ()
    user: str = ""
    is_new: bool = True
    is_trained: bool = True


@dataclass(frozen=True)
class OutdatedAnswer:
    """An answer that a newer lesson replaced; a revision must not say it."""

    question: str
    answer: str


@dataclass(frozen=True)
class Dataset:
    """What one job learns from and is compared with. Written once, never changed."""

    tenant: str
    dataset_id: str
    adapter_id: str
    sha256: str
    start: Start
    start_reason: str
    parent_revision_id: str
    # What `stable` pointed to when frozen, "" for nothing: the gate's baseline and the condition
    # of the alias move.
    baseline_revision_id: str
    lessons: tuple[DatasetLesson, ...]
    superseded: tuple[OutdatedAnswer, ...]
    newest_lesson_time: datetime | None
    create_time: datetime

    @property
    def lesson_ids(self) -> frozenset[str]:
        """Lessons that a revision trained on this dataset holds."""
        return frozenset(lesson.lesson_id for lesson in self.lessons)
