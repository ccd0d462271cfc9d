"""A memory_svc of this process on real servers, and what its neighbours would say to it."""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc

from memory_svc.app import build
from memory_svc.settings import MemorySettings
from selm import names, streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated, LessonAdvanced
from selm.api.feedback.v1 import feedback_event_pb2
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.api.memory.v1 import (
    memory_admin_service_pb2_grpc,
    memory_pb2,
    memory_service_pb2_grpc,
)
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.bus import Bus
from selm.lesson_events import advanced
from selm.lessons import LessonState, LessonStep
from selm.server import serve
from selm.settings import SharedSettings
from selm.testing import eventually
from selm.testing import free_port as pick_free_port

USER = "users/anonymous"


@dataclass
class RunningMemory:
    """A client of a running memory_svc, and the bus it listens to."""

    stub: memory_service_pb2_grpc.MemoryServiceStub
    bus: Bus
    tenant: str
    # Stub of MemoryAdminService.
    admin: Any = None
    port: int = 0

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-selm-tenant", self.tenant),)

    async def create(self, question: str, text: str, **fields: Any) -> pb.CreateMemoryResponse:
        request_id = fields.pop("request_id", "")
        parent = fields.pop("parent", USER)
        fields.setdefault("type", memory_pb2.MEMORY_TYPE_CORRECTION)
        memory = memory_pb2.Memory(question=question, text=text, **fields)
        request = pb.CreateMemoryRequest(parent=parent, memory=memory, request_id=request_id)
        return await self.stub.CreateMemory(request, metadata=self.metadata)

    async def search(
        self, query: str, tenant: str = "", timeout: float = 20, **fields: Any
    ) -> pb.SearchMemoriesResponse:
        fields.setdefault("parent", USER)
        request = pb.SearchMemoriesRequest(query=query, **fields)
        metadata = (("x-selm-tenant", tenant),) if tenant else self.metadata
        return await self.stub.SearchMemories(request, metadata=metadata, timeout=timeout)

    async def correct(
        self, question: str, answer: str, *, user: str = USER, consent: str = "SHARED_ADAPTER"
    ) -> tuple[str, int]:
        """Publishes a correction as feedback_svc does; its lesson and sequence."""
        message = correction(question, answer, user=user, consent=consent)
        event = message.feedback_event
        subject = streams.feedback_created(self.tenant, user)
        ack = await self.bus.publish(subject, message, message_id=event.name)
        return event.lesson, ack.sequence

    async def advance(
        self, state: LessonState, lesson: str, *, service: str = "trainer_svc", resource: str = ""
    ) -> None:
        """Publishes a step of a lesson as another service does."""
        message = advanced_message(state, lesson, service, resource)
        subject = streams.lesson_advanced(state.lower(), self.tenant, lesson.split("/")[1])
        await self.bus.publish(subject, message, message_id=uuid.uuid4().hex)

    async def steps(self, lesson: str) -> list[tuple[str, str]]:
        """State and resource of each step that memory_svc told of a lesson."""
        subject = f"selm.lesson.*.{self.tenant}.{lesson.split('/')[1]}"
        found = await self.bus.read(streams.LESSONS.name, [subject])
        told = [delivery.parse(LessonAdvanced).transition for delivery in found]
        return [
            (LessonState(_state_name(t.state)).value, t.resource)
            for t in told
            if t.service == "memory_svc"
        ]

    async def wait_for_step(self, lesson: str, state: str) -> list[tuple[str, str]]:
        async def look() -> list[tuple[str, str]] | None:
            steps = await self.steps(lesson)
            return steps if state in [name for name, _ in steps] else None

        found = await eventually(look)
        assert found is not None
        return found


def _state_name(number: int) -> str:
    return str(Lesson.State.Name(number)).removeprefix("STATE_")


def correction(
    question: str, answer: str, *, user: str = USER, consent: str = "SHARED_ADAPTER"
) -> FeedbackEventCreated:
    """A recorded correction with names of its own."""
    identity = uuid.uuid4().hex
    event = feedback_event_pb2.FeedbackEvent(
        name=names.feedback_event_name(identity),
        generation=names.generation_name(identity),
        correction=feedback_event_pb2.Correction(text=answer, question=question),
        user=user,
        adapter=names.DEFAULT_ADAPTER,
        consent=feedback_event_pb2.Consent.Value(f"CONSENT_{consent}"),
        state=feedback_event_pb2.FeedbackEvent.STATE_ACCEPTED,
        lesson=names.lesson_name(identity),
        author="anonymous",
    )
    event.create_time.GetCurrentTime()
    return FeedbackEventCreated(feedback_event=event)


def advanced_message(
    state: LessonState, lesson: str, service: str, resource: str
) -> LessonAdvanced:

    step = LessonStep(state, service, resource, "", datetime.now(UTC))
    event = names.feedback_event_name(lesson.split("/")[1])
    return advanced(lesson, event, step)


@asynccontextmanager
async def client_of(port: int, nats_url: str, tenant: str) -> AsyncIterator[RunningMemory]:
    """A client of a memory_svc that serves there."""
    shared = SharedSettings(nats_url=nats_url, log_format="json")
    async with (
        Bus.open(shared, "test") as bus,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield RunningMemory(
            memory_service_pb2_grpc.MemoryServiceStub(channel),
            bus,
            tenant,
            memory_admin_service_pb2_grpc.MemoryAdminServiceStub(channel),
            port,
        )


def is_foreign() -> bool:
    """Whether the tests run against a Milvus that they were given."""
    return bool(os.environ.get("SELM_MEMORY_MILVUS_URI"))


def patience() -> dict[str, float]:
    """Settings for the server at hand: on a cluster, to open a new collection takes long."""
    return {"store_timeout_s": 30.0} if is_foreign() else {}


@asynccontextmanager
async def running_memory(milvus_uri: str, nats_url: str, **fields: Any) -> AsyncIterator[Any]:
    """A started memory_svc with a collection and tenant of its own unless told otherwise."""
    fields = {"collection": f"c{uuid.uuid4().hex}", **patience(), **fields}
    tenant = fields.pop("tenant", f"t{uuid.uuid4().hex[:12]}")
    shared = SharedSettings(nats_url=nats_url, log_format="json")
    port = pick_free_port()
    settings = MemorySettings(
        milvus_uri=milvus_uri, port=port, metrics_port=0, shared=shared, **fields
    )
    ready, stop = asyncio.Event(), asyncio.Event()
    server = asyncio.create_task(serve("memory", settings, build, ready=ready, stop=stop))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({server, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if server.done():
        waiting.cancel()
        server.result()
    try:
        async with client_of(port, nats_url, tenant) as memory:
            yield memory
    finally:
        stop.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server
