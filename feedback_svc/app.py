"""The composition root: opens the bus and the back room in order, yields what is served."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from feedback_svc.datasets.desk import DatasetDesk
from feedback_svc.datasets.source import FeedbackSource
from feedback_svc.datasets.store import BUCKET as DATASETS
from feedback_svc.datasets.store import DatasetStore
from feedback_svc.erasure.rebuild import LearnAnew
from feedback_svc.erasure.room import ErasureRoom, Neighbours
from feedback_svc.events import Codec
from feedback_svc.events.examples import ExampleLines
from feedback_svc.intake.intake import Intake
from feedback_svc.intake.rules import SafetyRules
from feedback_svc.memory_count import open_memory_count
from feedback_svc.reading.changes import Changes
from feedback_svc.reading.reader import Reader
from feedback_svc.render.export import render_line
from feedback_svc.review import room as review
from feedback_svc.review.room import AuthorsRoom, ReviewRoom
from feedback_svc.service import FeedbackService
from feedback_svc.service_datasets import DatasetService
from feedback_svc.service_erasure import ErasureService
from feedback_svc.service_learning import LearningService
from feedback_svc.service_lessons import LessonService
from feedback_svc.service_review import ReviewService
from feedback_svc.settings import FeedbackSettings
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.recorder import Recorder
from feedback_svc.stream.views import LessonViews
from feedback_svc.training.room import TrainingBooks, TrainingRoom
from selm import streams
from selm.api.feedback.v1 import (
    dataset_service_pb2_grpc,
    feedback_service_pb2_grpc,
    learning_service_pb2_grpc,
    lesson_service_pb2_grpc,
    review_service_pb2_grpc,
)
from selm.api.ops.v1 import erasure_service_pb2_grpc
from selm.app import App, Servicer
from selm.artifacts import open_store
from selm.bus import Bus
from selm.checks import CheckResult
from selm.durability import critical_sync_checks, sync_checks
from selm.group_commit import GroupCommitter
from selm.tasks import end_tasks


@asynccontextmanager
async def build(settings: FeedbackSettings) -> AsyncIterator[App]:
    """Serves at once; is ready when the streams exist and were read to their end."""
    codec, is_sync_required = Codec(), settings.require_sync_always
    async with (
        Bus.open(settings.shared, "feedback_svc") as bus,
        open_memory_count(settings.shared.memory_target) as memories,
    ):
        committer = GroupCommitter(bus, streams.FEEDBACK.name, timeout_s=settings.bus_timeout_s)
        stream = EventStream(bus, codec, committer, settings.bus_timeout_s)
        journal = Journal(stream, codec, settings.bus_timeout_s)
        books = TrainingBooks(bus, codec, stream, settings.policy, settings.bus_timeout_s)
        policies, people = books.policies, AuthorsRoom(bus, settings.bus_timeout_s)
        rules = SafetyRules(settings.redaction, settings.max_authors_alike, settings.flood_window_s)
        intake = Intake(rules, policies, people.authors, codec.redacted)
        recorder = Recorder(stream, journal, intake, policies, settings.generation_wait_s)
        changes = Changes()
        journal.event_book.listen(changes.hear)
        reader = Reader(journal, stream, changes, render_line)
        training = TrainingRoom(bus, codec, stream, journal, books, settings.bus_timeout_s)
        work = [committer.run(), *journal.followers(bus)]
        work += training.followers(settings.policy_interval_s)
        needs = review.Neighbours(
            stream, journal, books.ledger, policies, lambda text: rules.clean(text).text
        )
        reviews = ReviewRoom(people, needs)
        work += [*people.followers(), *reviews.followers(settings.policy_interval_s)]
        source = FeedbackSource(bus, codec)
        store = DatasetStore(
            bus.kv(DATASETS),
            open_store(settings.shared, bus),
            ExampleLines(),
            settings.bus_timeout_s,
        )
        datasets = DatasetDesk(source, store, books.ledger, policies, people.authors.trust_of)
        neighbours = Neighbours(memories, datasets, LearnAnew(training.desk), books.ledger)
        erasures = ErasureRoom(bus, codec, journal, neighbours, settings.bus_timeout_s)
        work += erasures.followers()
        async with _running(bus, work):
            yield App(
                servicers=(
                    *_servicers(recorder, reader, LessonViews(journal, books.requests), training),
                    _erasure_servicer(erasures),
                    _review_servicer(reviews),
                    _dataset_servicer(datasets),
                ),
                checks={
                    "nats": lambda: _check_bus(bus),
                    "replay": lambda: _check_replay(journal, books, people),
                    **sync_checks(settings.shared.nats_monitor_url, is_required=is_sync_required),
                },
                critical=frozenset({"nats", "replay"})
                | critical_sync_checks(is_required=is_sync_required),
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
    recorder: Recorder, reader: Reader, lessons: LessonViews, training: TrainingRoom
) -> tuple[Servicer, Servicer, Servicer]:
    area = "selm.api.feedback.v1"
    return (
        Servicer(
            f"{area}.FeedbackService",
            feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server,
            FeedbackService(recorder, reader),
        ),
        Servicer(
            f"{area}.LessonService",
            lesson_service_pb2_grpc.add_LessonServiceServicer_to_server,
            LessonService(lessons),
        ),
        Servicer(
            f"{area}.LearningService",
            learning_service_pb2_grpc.add_LearningServiceServicer_to_server,
            LearningService(training.desk, training.policy_desk, training.letter_desk),
        ),
    )


def _erasure_servicer(room: ErasureRoom) -> Servicer:
    return Servicer(
        "selm.api.ops.v1.ErasureService",
        erasure_service_pb2_grpc.add_ErasureServiceServicer_to_server,
        ErasureService(room.office),
    )


def _review_servicer(room: ReviewRoom) -> Servicer:
    return Servicer(
        "selm.api.feedback.v1.ReviewService",
        review_service_pb2_grpc.add_ReviewServiceServicer_to_server,
        ReviewService(room.items, room.conflicts, room.authors),
    )


def _dataset_servicer(datasets: DatasetDesk) -> Servicer:
    return Servicer(
        "selm.api.feedback.v1.DatasetService",
        dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server,
        DatasetService(datasets),
    )


async def _check_bus(bus: Bus) -> CheckResult:
    if bus.is_connected:
        return CheckResult(True, "connected")
    return CheckResult(False, "NATS does not answer", "BUS_UNAVAILABLE")


async def _check_replay(journal: Journal, books: TrainingBooks, people: AuthorsRoom) -> CheckResult:
    if journal.is_ready and books.is_ready and people.is_ready:
        return CheckResult(True, "streams were read to their end")
    return CheckResult(False, "streams are being read", "STARTING")
