"""The nouns of learning: training request, policy, queue; the second half of core.

Knows no protobuf, broker or gRPC. The ports at the end are what the back room `stream` fulfils.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Protocol

from feedback_svc.core import Kind, RequestKey
from selm import names
from selm.lessons import LessonRecord

POLICY_REQUESTER = "policy"


class Trigger(IntEnum):
    """What asked for training."""

    MANUAL = 1
    COUNT = 2
    AGE = 3


class RequestState(StrEnum):
    """Life of a training request."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_open(self) -> bool:
        return self in {RequestState.WAITING, RequestState.RUNNING}


@dataclass(frozen=True)
class Failure:
    """Why a request did not end well; `reason` is a published error reason."""

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    retryable: bool = False
    time: datetime | None = None


@dataclass(frozen=True)
class TrainingWish:
    """What a caller asks for."""

    adapter: str
    from_base: bool = False
    reason: str = ""


@dataclass(frozen=True)
class TrainingRequest:
    """A wish to train an adapter on the lessons that waited when it was made."""

    tenant: str
    request_id: str
    adapter: str
    trigger: Trigger
    requester: str
    lessons: tuple[str, ...]
    create_time: datetime
    from_base: bool = False
    reason: str = ""
    # False until the work queue acknowledged it; the learner finishes what a crash left behind.
    announced: bool = False

    @property
    def name(self) -> str:
        return names.training_request_name(self.request_id)


@dataclass(frozen=True)
class JobNews:
    """What a training job last said about the request it works on."""

    tenant: str
    request: str
    job: str
    state: RequestState
    num_attempts: int
    dataset: str
    evaluation: str
    failure: Failure | None
    update_time: datetime


@dataclass(frozen=True)
class DeadLetterNews:
    """A message that a consumer gave up on. `request` is set if it was a training request."""

    tenant: str
    stream: str
    adapter: str
    request: str
    failure: Failure


@dataclass(frozen=True)
class RequestView:
    """A request with what became of it."""

    request: TrainingRequest
    state: RequestState
    update_time: datetime
    job: JobNews | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class PolicySettings:
    """When an adapter learns by itself; see settings.py for units and bounds."""

    paused: bool = False
    min_lessons: int = 8
    idle_s: float = 60.0
    debounce_s: float = 5.0
    cooldown_s: float = 30.0


@dataclass(frozen=True)
class QueueNumbers:
    """What waits for one adapter and kind."""

    adapter: str
    kind: Kind
    num_waiting_lessons: int = 0
    num_waiting_requests: int = 0
    num_running_requests: int = 0
    oldest_age_s: float = 0.0
    num_redeliveries: int = 0
    num_dead_letters: int = 0


# A lesson, and the newest job that works on its request.
LessonView = tuple[LessonRecord, JobNews | None]


class Lessons(Protocol):
    """Serves lessons as they are now and as they change."""

    async def get(self, tenant: str, name: str) -> LessonView: ...

    def watch(self, tenant: str, name: str) -> AsyncGenerator[LessonView, None]: ...


class Learning(Protocol):
    """Asks for training and tells what waits."""

    async def request(
        self, tenant: str, requester: str, wish: TrainingWish, key: RequestKey | None
    ) -> RequestView: ...

    async def get(self, tenant: str, name: str) -> RequestView: ...

    async def stats(self, tenant: str, adapter: str) -> list[QueueNumbers]: ...
