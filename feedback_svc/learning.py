"""The nouns of learning: training request, policy, queue; the second half of core.

Knows no protobuf, broker or gRPC. The ports at the end are what the back room `stream` fulfils.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, Protocol

from feedback_svc.core import Failure, RequestKey
from feedback_svc.signals import Kind
from selm import names
from selm.lessons import Consent, LessonRecord, LessonState

POLICY_REQUESTER = "policy"


class Trigger(IntEnum):
    """What asked for training."""

    MANUAL = 1
    COUNT = 2
    AGE = 3
    SCHEDULE = 4
    ERASURE = 7


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


class Stage(StrEnum):
    """How far a request is on its way to the trainers. NEW: not all lessons told; READY: waits for
    its turn; RELEASING and RECALLING: a step that a crash leaves to be finished."""

    NEW = "NEW"
    READY = "READY"
    RELEASING = "RELEASING"
    RELEASED = "RELEASED"
    RECALLING = "RECALLING"


@dataclass(frozen=True)
class TrainingWish:
    """What a caller asks for."""

    adapter: str
    from_base: bool = False
    reason: str = ""
    priority: int = 0
    trigger: Trigger = Trigger.MANUAL


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
    priority: int = 0
    # Somebody asked by hand for what waited by itself: the daily budget does not hold it back.
    is_urged: bool = False
    stage: Stage = Stage.NEW
    # Place in the work queue while RELEASED or RECALLING; 0 if unknown.
    sequence: int = 0
    num_releases: int = 0
    # Principal who wants it cancelled; it may still end otherwise.
    canceller: str = ""
    # Set where no trainer ever saw it: how it ended, and when.
    outcome: RequestState | None = None
    outcome_time: datetime | None = None

    @property
    def name(self) -> str:
        return names.training_request_name(self.request_id)

    @property
    def is_automatic(self) -> bool:
        """Subject to the daily budget."""
        return self.requester == POLICY_REQUESTER and not self.is_urged


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
    adapter: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True)
class RequestView:
    """A request with what became of it."""

    request: TrainingRequest
    state: RequestState
    update_time: datetime
    job: JobNews | None = None
    failure: Failure | None = None
    # Why it waits although its turn has come; empty if nothing holds it.
    held_by: str = ""


@dataclass(frozen=True)
class TrainingPolicy:
    """When and from what an adapter learns; see the contract for units and bounds."""

    paused: bool = False
    min_lessons: int = 8
    # What the contract calls max_lesson_age; 0 is off.
    idle_s: float = 60.0
    # Five-field cron in UTC; empty is off.
    schedule: str = ""
    debounce_s: float = 5.0
    cooldown_s: float = 30.0
    # Training time per UTC day; None is unlimited.
    daily_budget_s: float | None = None
    review_required: bool = False
    quorum_authors: int = 1
    # 0 means 1, or 0.05 for a shared adapter once it has 20 authors.
    max_author_share: float = 0.0
    default_consent: Consent = Consent.SHARED_ADAPTER
    # Empty until it was changed for the first time.
    etag: str = ""
    update_time: datetime | None = None


@dataclass(frozen=True)
class PolicyChange:
    """New values of fields; None takes the deployment's default back. Fields as in the policy."""

    adapter: str
    fields: Mapping[str, Any]
    etag: str = ""


class Policies(Protocol):
    """The policies in force; answers at once, from what it has heard."""

    def policy_of(self, tenant: str, adapter: str) -> TrainingPolicy: ...


class PolicyDesk(Protocol):
    """Shows and changes policies."""

    async def get(self, tenant: str, adapter: str) -> TrainingPolicy: ...

    async def change(
        self, tenant: str, change: PolicyChange, key: RequestKey | None
    ) -> TrainingPolicy:
        """STALE_ETAG if the policy changed since its etag was read."""
        ...


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


@dataclass(frozen=True)
class LessonFilter:
    """Conditions on lessons, all of which must hold; empty ones hold for all."""

    states: frozenset[LessonState] = frozenset()
    adapter: str = ""
    adapter_revision: str = ""
    user: str = ""
    training_job: str = ""


class Lessons(Protocol):
    """Serves lessons as they are now and as they change."""

    async def get(self, tenant: str, name: str) -> LessonView: ...

    async def list(
        self, tenant: str, wanted: LessonFilter, before: tuple[datetime, str] | None, limit: int
    ) -> list[LessonView]:
        """Last changed first, those before a time and name."""
        ...

    def watch(self, tenant: str, name: str) -> AsyncGenerator[LessonView, None]: ...


@dataclass(frozen=True)
class RequestFilter:
    """Conditions on requests; empty ones hold for all."""

    adapter: str = ""
    states: frozenset[RequestState] = frozenset()


class Learning(Protocol):
    """Asks for training and tells what waits."""

    async def request(
        self, tenant: str, requester: str, wish: TrainingWish, key: RequestKey | None
    ) -> RequestView: ...

    async def get(self, tenant: str, name: str) -> RequestView: ...

    async def list(
        self, tenant: str, wanted: RequestFilter, before: tuple[datetime, str] | None, limit: int
    ) -> Sequence[RequestView]:
        """Newest first, those before a time and name."""
        ...

    async def prioritise(
        self, tenant: str, name: str, priority: int | None, key: RequestKey | None
    ) -> RequestView:
        """Change the priority; None leaves it."""
        ...

    async def cancel(
        self, tenant: str, who: str, name: str, key: RequestKey | None
    ) -> RequestView: ...

    async def stats(self, tenant: str, adapter: str) -> Sequence[QueueNumbers]: ...
