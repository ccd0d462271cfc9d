"""What the work needs from outside its rooms, as Protocols: lessons, announcements, inference.

events.py and inference.py fulfil them; tests may too.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from selm.lessons import LessonRecord, LessonState
from trainer_svc.core import Alias, Revision
from trainer_svc.jobs import TrainingJob

Heartbeat = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class LessonStepWish:
    """A step of a lesson to announce. `occasion` makes the message id, so repeats are dropped."""

    lesson: LessonRecord
    state: LessonState
    resource: str
    reason: str
    occasion: str


class LessonBook(Protocol):
    """All lessons of a tenant as the streams tell them now, and the way to add a step."""

    async def read(self, tenant: str) -> list[LessonRecord]: ...
    async def advance(self, wish: LessonStepWish) -> None: ...


class Announcer(Protocol):
    """Tells the other services what changed."""

    async def job_updated(self, job: TrainingJob, message_id: str) -> None: ...
    async def alias_moved(self, tenant: str, alias: Alias, revision: Revision, id: str) -> None: ...
    async def announced_epoch(self, tenant: str, adapter_id: str, alias_id: str) -> int: ...


@dataclass(frozen=True)
class Reply:
    """What the serving replicas said to a question, and which revision said it ("" for none)."""

    text: str
    revision_id: str
    is_adapter_applied: bool
    adapter_reason: str


class Inference(Protocol):
    """The serving side; PEER_UNAVAILABLE while it does not answer."""

    async def base_sha256(self) -> str: ...
    async def ask(
        self, tenant: str, adapter_id: str, user: str, question: str, max_output_tokens: int
    ) -> Reply: ...
