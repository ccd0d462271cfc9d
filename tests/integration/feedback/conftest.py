"""feedback_svc on a real nats-server: in this process, or as a child that may be killed."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from feedback_svc.app import build
from feedback_svc.settings import FeedbackSettings
from selm import names, streams
from selm.api.event.v1.adapter_event_pb2 import TrainingJobUpdated
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated, TrainingRequested
from selm.api.event.v1.inference_event_pb2 import GenerationFinished
from selm.api.feedback.v1 import (
    feedback_event_pb2,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    learning_pb2,
    learning_service_pb2,
    learning_service_pb2_grpc,
    lesson_service_pb2,
    lesson_service_pb2_grpc,
)
from selm.api.inference.v1.generation_pb2 import Candidate, Generation
from selm.api.inference.v1.input_pb2 import ChatInput, ChatMessage, GenerationInput, Role
from selm.bus import Bus
from selm.lesson_events import advanced
from selm.lessons import LessonState, LessonStep
from selm.nats_server import NatsServer
from selm.server import serve
from selm.settings import SharedSettings
from selm.testing import eventually, free_port


@dataclass(frozen=True)
class Refusal:
    """How a call failed, out of its status details."""

    code: grpc.StatusCode
    reason: str
    fields: list[str]
    retry_after_s: float | None


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    status = rpc_status.from_call(error)
    if status is None:
        # The process died: there is nobody left to say more.
        return Refusal(error.code(), "", [], None)
    info = error_details_pb2.ErrorInfo()
    fields = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    found = [type(d) for d in (info, fields, retry) if any(p.Unpack(d) for p in status.details)]
    return Refusal(
        error.code(),
        info.reason,
        [violation.field for violation in fields.field_violations],
        retry.retry_delay.ToTimedelta().total_seconds() if type(retry) in found else None,
    )


@dataclass
class Feedback:
    """A client of one feedback_svc, speaking for one tenant."""

    channel: grpc.aio.Channel
    tenant: str
    feedback: Any = field(init=False)
    lessons: Any = field(init=False)
    learning: Any = field(init=False)

    def __post_init__(self) -> None:
        self.feedback = feedback_service_pb2_grpc.FeedbackServiceStub(self.channel)
        self.lessons = lesson_service_pb2_grpc.LessonServiceStub(self.channel)
        self.learning = learning_service_pb2_grpc.LearningServiceStub(self.channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-selm-tenant", self.tenant),)

    async def refusal(self, call: Any) -> Refusal:
        """How a call fails; it is an error if it does not."""
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
        raise AssertionError("the call succeeded")

    async def create(self, request_id: str = "", timeout: float = 10, **event: Any) -> Any:
        request = feedback_service_pb2.CreateFeedbackEventRequest(
            feedback_event=feedback_event_pb2.FeedbackEvent(**event), request_id=request_id
        )
        return await self.feedback.CreateFeedbackEvent(
            request, metadata=self.metadata, timeout=timeout
        )

    async def correct(self, generation: str, text: str, **more: Any) -> Any:
        correction = feedback_event_pb2.Correction(text=text, **more.pop("correction", {}))
        return await self.create(generation=generation, correction=correction, **more)

    async def event(self, name: str) -> Any:
        request = feedback_service_pb2.GetFeedbackEventRequest(name=name)
        reply = await self.feedback.GetFeedbackEvent(request, metadata=self.metadata, timeout=10)
        return reply.feedback_event

    async def lesson(self, name: str) -> Any:
        request = lesson_service_pb2.GetLessonRequest(name=name)
        reply = await self.lessons.GetLesson(request, metadata=self.metadata, timeout=10)
        return reply.lesson

    def watch(self, name: str) -> Any:
        request = lesson_service_pb2.WatchLessonRequest(name=name)
        return self.lessons.WatchLesson(request, metadata=self.metadata)

    async def train(
        self, adapter: str = names.DEFAULT_ADAPTER, request_id: str = "", **more: Any
    ) -> Any:
        wish = learning_pb2.TrainingRequest(adapter=adapter, **more)
        request = learning_service_pb2.CreateTrainingRequestRequest(
            training_request=wish, request_id=request_id
        )
        reply = await self.learning.CreateTrainingRequest(
            request, metadata=self.metadata, timeout=10
        )
        return reply.training_request

    async def training_request(self, name: str) -> Any:
        request = learning_service_pb2.GetTrainingRequestRequest(name=name)
        reply = await self.learning.GetTrainingRequest(request, metadata=self.metadata, timeout=10)
        return reply.training_request

    async def stats(self, adapter: str = "") -> Any:
        request = learning_service_pb2.GetQueueStatsRequest(adapter=adapter)
        reply = await self.learning.GetQueueStats(request, metadata=self.metadata, timeout=10)
        return list(reply.stats)

    async def wait_ready(self) -> "Feedback":
        async def answers() -> bool:
            try:
                await self.stats()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            return True

        await eventually(answers, timeout_s=30)
        return self


class Peers:
    """What the other services would say on the bus."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        self.bus = bus
        self.tenant = tenant

    async def generate(
        self,
        question: str = "What is the capital of Zubrowka?",
        answer: str = "It is Nebelsbad.",
        *,
        store: bool = True,
        generation_id: str = "",
        **fields: Any,
    ) -> str:
        """Publish a GenerationFinished as inference_svc does; returns the generation's name."""
        generation_id = generation_id or uuid.uuid4().hex
        generation = Generation(
            name=names.generation_name(generation_id),
            content_stored=store,
            **{"user": names.ANONYMOUS_USER, **fields},
        )
        if store:
            message = ChatMessage(role=Role.ROLE_USER, text=question)
            generation.input.CopyFrom(GenerationInput(chat=ChatInput(messages=[message])))
            generation.candidates.append(Candidate(text=answer))
        subject = streams.generation_finished(self.tenant, generation_id)
        message = GenerationFinished(generation=generation, status_code="OK")
        await self.bus.publish(subject, message, message_id=generation_id)
        return generation.name

    async def step(
        self, lesson: Any, state: str, resource: str = "", service: str = "memory_svc"
    ) -> None:
        """Publish a step of a lesson as another service does."""
        step = LessonStep(LessonState(state), service, resource, "", datetime.now(UTC))
        lesson_id = lesson.name.removeprefix("lessons/")
        subject = streams.lesson_advanced(state.lower(), self.tenant, lesson_id)
        message = advanced(lesson.name, lesson.feedback_event, step)
        await self.bus.publish(subject, message, message_id=uuid.uuid4().hex)

    async def remember(self, lesson: Any) -> None:
        await self.step(lesson, "REMEMBERED", f"users/anonymous/memories/{uuid.uuid4().hex}")

    async def job(self, request: Any, state: int, job_id: str = "", **fields: Any) -> str:
        """Publish a TrainingJobUpdated as trainer_svc does; returns the job's name."""
        job_id = job_id or request.name.removeprefix("trainingRequests/")
        update = TrainingJobUpdated()
        update.training_job.name = names.training_job_name(job_id)
        update.training_job.adapter = request.adapter
        update.training_job.training_request = request.name
        update.training_job.state = state
        for key, value in fields.items():
            getattr(update.training_job, key).CopyFrom(value)
        update.training_job.update_time.GetCurrentTime()
        subject = streams.training_job_updated(self.tenant, job_id)
        await self.bus.publish(subject, update, message_id=uuid.uuid4().hex)
        return update.training_job.name

    async def recorded(self) -> list[FeedbackEventCreated]:
        """Every feedback event of the tenant that the broker holds."""
        subject = f"selm.feedback.created.{self.tenant}.>"
        stored = await self.bus.read(streams.FEEDBACK.name, [subject])
        return [delivery.parse(FeedbackEventCreated) for delivery in stored]

    async def num_queued(self) -> int:
        """Training requests of the tenant in the work queue."""
        subject = streams.training_requested(self.tenant)
        info = await self.bus.connection.jetstream().stream_info(
            streams.TRAINING.name, subjects_filter=subject
        )
        return int((info.state.subjects or {}).get(subject, 0))

    async def take_request(self) -> Any:
        """The newest training request in the work queue, taken out as by a trainer."""
        found = await self.bus.last(streams.TRAINING.name, streams.training_requested(self.tenant))
        assert found is not None
        await self.bus.connection.jetstream().delete_msg(streams.TRAINING.name, found.sequence)
        return found.parse(TrainingRequested).training_request


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid.uuid4().hex[:16]}"


def _shared(url: str) -> SharedSettings:
    return SharedSettings(nats_url=url, grace_s=1)


@asynccontextmanager
async def _running(url: str, **settings: Any) -> AsyncIterator[str]:
    """feedback_svc in this process, until the block ends; yields its address."""
    port = free_port()
    chosen = FeedbackSettings(
        port=port, metrics_port=free_port(), shared=_shared(url), policy_interval_s=0.05, **settings
    )
    ready, stop = asyncio.Event(), asyncio.Event()
    server = asyncio.create_task(serve("feedback", chosen, build, ready=ready, stop=stop))
    waiter = asyncio.create_task(ready.wait())
    await asyncio.wait({server, waiter}, return_when=asyncio.FIRST_COMPLETED)
    if server.done():
        await server
    try:
        yield f"127.0.0.1:{port}"
    finally:
        stop.set()
        await server


@asynccontextmanager
async def _client_of(address: str, tenant: str) -> AsyncIterator[Feedback]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Feedback(channel, tenant)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with Bus.open(_shared(nats_url), "test") as bus:
        await bus.ready()
        yield bus


@pytest.fixture
def peers(bus: Bus, tenant: str) -> Peers:
    return Peers(bus, tenant)


@pytest.fixture
def running() -> Any:
    """`async with running(url, **settings) as address`."""
    return _running


@pytest.fixture
def client_of() -> Any:
    """`async with client_of(address, tenant) as client`."""
    return _client_of


@pytest.fixture
def peers_on(tenant: str) -> Callable[[Bus], Peers]:
    """The other services on a bus of the test's own."""
    return lambda bus: Peers(bus, tenant)


@pytest.fixture
async def own_bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to the broker that this test kills."""
    async with Bus.open(_shared(nats_server.url), "test") as bus:
        await bus.ready()
        yield bus


@pytest.fixture
async def client(nats_url: str, tenant: str) -> AsyncIterator[Feedback]:
    """A ready feedback_svc that trains nothing by itself."""
    async with (
        _running(nats_url, training_paused=True) as address,
        _client_of(address, tenant) as client,
    ):
        yield await client.wait_ready()


class Child:
    """feedback_svc as a process of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._process: asyncio.subprocess.Process | None = None
        self.port = free_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, failpoints: str = "", **settings: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SELM_")}
        environment |= {
            "SELM_NATS_URL": self._url,
            "SELM_FEEDBACK_PORT": str(self.port),
            "SELM_FEEDBACK_METRICS_PORT": str(free_port()),
            "SELM_FEEDBACK_POLICY_INTERVAL_S": "0.05",
            **({"SELM_FAILPOINTS": failpoints} if failpoints else {}),
            **{f"SELM_FEEDBACK_{name.upper()}": value for name, value in settings.items()},
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "feedback_svc", env=environment, stdout=asyncio.subprocess.DEVNULL
        )

    async def died(self) -> int:
        """Wait for its end; the exit status."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), 20)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


@pytest.fixture
async def child() -> AsyncIterator[Callable[[str], Child]]:
    """Makes children; none outlives the test."""
    children: list[Child] = []

    def make(url: str) -> Child:
        children.append(Child(url))
        return children[-1]

    yield make
    for one in children:
        await one.kill()
