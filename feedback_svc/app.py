"""The composition root: opens the bus and the back room in order, yields what is served."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from feedback_svc.events import Codec
from feedback_svc.service import FeedbackService, LearningService, LessonService
from feedback_svc.settings import FeedbackSettings
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.learner import Learner
from feedback_svc.stream.ledger import Ledger
from feedback_svc.stream.recorder import Recorder
from feedback_svc.stream.request_store import BUCKET
from feedback_svc.stream.requests import RequestBook
from feedback_svc.stream.views import LessonViews
from selm.api.feedback.v1 import (
    feedback_service_pb2_grpc,
    learning_service_pb2_grpc,
    lesson_service_pb2_grpc,
)
from selm.app import App, Servicer
from selm.bus import Bus
from selm.checks import CheckResult
from selm.tasks import end_tasks


@asynccontextmanager
async def build(settings: FeedbackSettings) -> AsyncIterator[App]:
    """Serves at once; is ready when the streams exist and were read to their end."""
    codec = Codec()
    async with Bus.open(settings.shared, "feedback_svc") as bus:
        stream = EventStream(bus, codec, settings.bus_timeout_s)
        journal = Journal(stream, codec, settings.bus_timeout_s)
        requests = RequestBook(bus.kv(BUCKET), codec)
        ledger = Ledger(bus.kv(BUCKET), settings.bus_timeout_s)
        recorder = Recorder(stream, journal, ledger, settings.consent, settings.generation_wait_s)
        learner = Learner(stream, journal, requests, ledger, settings.policy)
        work = [*journal.followers(bus), *requests.followers(bus)]
        work.append(learner.run(settings.policy_interval_s))
        async with _running(bus, work):
            yield App(
                servicers=_servicers(recorder, LessonViews(journal, requests), learner),
                checks={
                    "nats": lambda: _check_bus(bus),
                    "replay": lambda: _check_replay(journal, requests),
                },
                critical=frozenset({"nats", "replay"}),
            )


@asynccontextmanager
async def _running(bus: Bus, work: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run all this beside the block, once the streams exist; if one fails, so does the block."""
    streams_exist = asyncio.create_task(bus.ready())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_after(streams_exist, one)) for one in work]
        try:
            yield
        finally:
            await end_tasks([*tasks, streams_exist])


async def _after(first: asyncio.Task[None], then: Coroutine[Any, Any, None]) -> None:
    try:
        await asyncio.shield(first)
    except BaseException:
        then.close()
        raise
    await then


def _servicers(
    recorder: Recorder, lessons: LessonViews, learner: Learner
) -> tuple[Servicer, Servicer, Servicer]:
    area = "selm.api.feedback.v1"
    return (
        Servicer(
            f"{area}.FeedbackService",
            feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server,
            FeedbackService(recorder),
        ),
        Servicer(
            f"{area}.LessonService",
            lesson_service_pb2_grpc.add_LessonServiceServicer_to_server,
            LessonService(lessons),
        ),
        Servicer(
            f"{area}.LearningService",
            learning_service_pb2_grpc.add_LearningServiceServicer_to_server,
            LearningService(learner),
        ),
    )


async def _check_bus(bus: Bus) -> CheckResult:
    if bus.is_connected:
        return CheckResult(True, "connected")
    return CheckResult(False, "NATS does not answer", "BUS_UNAVAILABLE")


async def _check_replay(journal: Journal, requests: RequestBook) -> CheckResult:
    if journal.is_ready and requests.is_ready:
        return CheckResult(True, "streams were read to their end")
    return CheckResult(False, "streams are being read", "STARTING")
