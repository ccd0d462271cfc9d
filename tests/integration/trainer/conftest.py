"""The trainer's rooms on a real nats-server, taught and asked as the other services would."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from selm import lesson_events, names, streams
from selm.api.adapter.v1.rollout_pb2 import ReplicaAcknowledgement
from selm.api.error.v1.error_reason_pb2 import Failure
from selm.api.event.v1 import adapter_event_pb2, feedback_event_pb2
from selm.api.feedback.v1.feedback_event_pb2 import Consent, Correction, FeedbackEvent
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.artifacts import open_store
from selm.bus import Bus
from selm.errors import unavailable
from selm.lessons import LessonRecord, LessonState, LessonStep
from selm.nats_server import NatsServer
from selm.settings import SharedSettings
from selm.testing import eventually
from trainer_svc.core import Alias
from trainer_svc.events import BusLessonBook
from trainer_svc.jobs import TrainingJob
from trainer_svc.ports import Reply
from trainer_svc.rooms import Rooms, furnish
from trainer_svc.settings import TrainerSettings
from trainer_svc.training.runner import TrainingProcess

SCRIPTED = "tests.integration.trainer.scripted_child"


@dataclass
class ServingStandIn:
    """What inference says: an answer per question, from the revision it was told to serve."""

    revision_id: str = ""
    base: str = ""
    answers: dict[str, str] = field(default_factory=dict)
    is_down: bool = False
    num_asked: int = 0
    is_adapter_applied: bool = True

    async def base_sha256(self) -> str:
        self._check()
        if not self.base:
            raise unavailable("PEER_UNAVAILABLE", "not told which base model serves")
        return self.base

    async def ask(
        self, tenant: str, adapter_id: str, user: str, question: str, max_output_tokens: int
    ) -> Reply:
        self._check()
        self.num_asked += 1
        text = self.answers.get(question, "I do not know.")
        return Reply(text, self.revision_id, self.is_adapter_applied, "IN_SCOPE")

    def _check(self) -> None:
        if self.is_down:
            raise unavailable("PEER_UNAVAILABLE", "inference is down", retry_after_s=0.1)


@dataclass
class Bench:
    """One trainer and one tenant."""

    bus: Bus
    serving: ServingStandIn
    settings: TrainerSettings
    tenant: str
    restart: Callable[[], Rooms]
    rooms: Rooms = field(init=False)

    async def teach(
        self,
        *facts: tuple[str, str],
        adapter: str = "adapters/default",
        user: str = names.ANONYMOUS_USER,
    ) -> list[str]:
        """Records corrections, remembered already; names of their lessons."""
        lessons = []
        for question, answer in facts:
            event_id = uuid.uuid4().hex
            event = FeedbackEvent(
                name=names.feedback_event_name(event_id),
                correction=Correction(text=answer, question=question),
                user=user,
                adapter=adapter,
                consent=Consent.CONSENT_SHARED_ADAPTER,
                state=FeedbackEvent.STATE_ACCEPTED,
                lesson=names.lesson_name(event_id),
            )
            event.create_time.GetCurrentTime()
            subject = streams.feedback_created(self.tenant, event.user)
            message = feedback_event_pb2.FeedbackEventCreated(feedback_event=event)
            await self.bus.publish(subject, message, message_id=event_id)
            memory = names.memory_name("anonymous", event_id)
            await self.step(event.lesson, LessonState.REMEMBERED, memory, "memory_svc")
            lessons.append(event.lesson)
        return lessons

    async def step(self, lesson: str, state: LessonState, resource: str, service: str) -> None:
        """Another service takes a step of a lesson."""
        step = LessonStep(state, service, resource, "", datetime.now(UTC))
        lesson_id = lesson.partition("/")[2]
        subject = streams.lesson_advanced(state.lower(), self.tenant, lesson_id)
        event = names.feedback_event_name(lesson_id)
        message = lesson_events.advanced(lesson, event, step)
        await self.bus.publish(subject, message, message_id=uuid.uuid4().hex)

    async def request(
        self, lessons: Sequence[str] = (), *, from_base: bool = False, adapter: str = "default"
    ) -> str:
        """Asks for training as feedback_svc does; id of the request."""
        request_id = uuid.uuid4().hex
        name = names.training_request_name(request_id)
        for lesson in lessons:
            await self.step(lesson, LessonState.QUEUED, name, "feedback_svc")
        request = TrainingRequest(
            name=name, adapter=names.adapter_name(adapter), from_base=from_base
        )
        message = feedback_event_pb2.TrainingRequested(training_request=request)
        subject = streams.training_requested(self.tenant)
        await self.bus.publish(subject, message, message_id=request_id)
        return request_id

    async def acknowledge(self, revision_id: str, failure: Failure | None = None) -> None:
        """A replica says that it serves the revision, or refuses it."""
        state = ReplicaAcknowledgement.STATE_REFUSED if failure else None
        done = ReplicaAcknowledgement(
            replica="replicas/one",
            state=state or ReplicaAcknowledgement.STATE_SERVING,
            failure=failure,
        )
        message = adapter_event_pb2.AdapterRevisionAcknowledged(
            adapter_revision=names.revision_name("default", revision_id), acknowledgement=done
        )
        subject = streams.adapter_acknowledged(self.tenant, "default", "one")
        await self.bus.publish(subject, message, message_id=uuid.uuid4().hex)

    async def job(self, state: str, *, request_id: str = "", timeout_s: float = 30) -> TrainingJob:
        """The job of the request (default: the newest), once it is in that state."""

        async def probe() -> TrainingJob | None:
            for job in await self.rooms.jobs.list_all(self.tenant):
                if request_id in ("", job.request_id):
                    return job if job.state == state else None
            return None

        found = await eventually(probe, timeout_s=timeout_s)
        assert found is not None
        return found

    async def stable(self) -> Alias | None:
        """Where `stable` points."""
        return (await self.rooms.adapters.get(self.tenant, "default")).alias("stable")

    async def lesson(self, name: str) -> LessonRecord:
        """The lesson as the streams tell it."""
        records = await BusLessonBook(self.bus).read(self.tenant)
        return next(record for record in records if record.name == name)

    async def lesson_in(self, name: str, state: LessonState) -> LessonRecord:
        """The lesson, once it is in that state."""

        async def probe() -> LessonRecord | None:
            record = await self.lesson(name)
            return record if record.state is state else None

        found = await eventually(probe)
        assert found is not None
        return found

    async def announced(self) -> Any:
        """The newest announcement of `stable`, if any."""
        subject = streams.adapter_aliased(self.tenant, "default", "stable")
        last = await self.bus.last("ADAPTERS", subject)
        return last.parse(adapter_event_pb2.AdapterRevisionAliased) if last else None

    @asynccontextmanager
    async def working(self, rooms: Rooms | None = None) -> AsyncIterator[None]:
        """The trainer's consumers run during the block."""
        rooms = rooms or self.rooms
        loops = (
            rooms.training.run(),
            rooms.acknowledgements.run(),
            rooms.desk.run(),
            rooms.erasures.run(),
            rooms.cancellations.run(),
        )
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task


@pytest.fixture
def base_model(tmp_path: Path) -> Path:
    """A folder that can be named and digested; the scripted child never loads it."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def settings(nats_server: NatsServer, base_model: Path, tmp_path: Path) -> TrainerSettings:
    shared = SharedSettings(
        nats_url=nats_server.url,
        data_dir=tmp_path / "data",
        artifacts_uri=(tmp_path / "artifacts").as_uri(),
    )
    return TrainerSettings(base_model=str(base_model), shared=shared, num_threads=1)


@pytest.fixture
async def bench(settings: TrainerSettings) -> AsyncIterator[Bench]:
    """A trainer whose children are scripted."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus.open(settings.shared, "test"))
        await bus.ready()
        serving = ServingStandIn()

        def furnished() -> Rooms:
            store = open_store(settings.shared, bus)
            return furnish(bench.settings, bus, store, serving, TrainingProcess(SCRIPTED))

        bench = Bench(bus, serving, settings, "default", furnished)
        bench.rooms = furnished()
        await bench.rooms.adapters.ensure("default", "default", "models/tiny")
        yield bench
