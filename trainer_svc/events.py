"""What the trainer publishes and consumes on the bus; protobuf on one side, core on the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from selm import lesson_events, names, streams
from selm.api.adapter.v1.rollout_pb2 import ReplicaAcknowledgement
from selm.api.event.v1 import adapter_event_pb2 as adapter_events
from selm.api.event.v1 import feedback_event_pb2 as feedback_events
from selm.bus import Bus, Delivery
from selm.errors import SelmError
from selm.lesson_fold import LessonFold
from selm.lessons import LessonRecord, LessonStep
from selm.log import get_logger
from trainer_svc import render, render_jobs
from trainer_svc.core import SERVICE, Alias, Revision, now
from trainer_svc.jobs import Order, TrainingJob
from trainer_svc.ports import LessonStepWish
from trainer_svc.registry.cancellations import Cancellations
from trainer_svc.training.desk import Desk
from trainer_svc.training.patience import patiently
from trainer_svc.training.queue import TrainingQueue
from trainer_svc.training.verify import Verifier

_log = get_logger("trainer_svc.events")

# Short, so that the request of a dead worker is soon another's; the guard beats three times in it.
TRAIN_ACK_WAIT_S = 10.0
# Longer than the answers to all wordings of one lesson may take.
VERIFY_ACK_WAIT_S = 60.0
# Attempts of a job are limited by its record; this bounds what never gets as far as a record.
MAX_DELIVER = 100


class BusAnnouncer:
    """Port Announcer on the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def job_updated(self, job: TrainingJob, message_id: str) -> None:
        """Stream JOBS: the job after a change."""
        message = adapter_events.TrainingJobUpdated(
            training_job=render_jobs.training_job(job), event_time=render.timestamp(now())
        )
        subject = streams.training_job_updated(job.tenant, job.job_id)
        await self._bus.publish(subject, message, message_id=message_id)

    async def alias_moved(self, tenant: str, alias: Alias, revision: Revision, id: str) -> None:
        """Stream ADAPTERS: where an alias points now."""
        message = adapter_events.AdapterRevisionAliased(
            alias=render.alias(alias),
            adapter_revision=render.revision(revision),
            event_time=render.timestamp(alias.update_time),
        )
        subject = streams.adapter_aliased(tenant, alias.adapter_id, alias.alias_id)
        await self._bus.publish(subject, message, message_id=id)

    async def announced_epoch(self, tenant: str, adapter_id: str, alias_id: str) -> int:
        """Epoch of the newest announcement; 0 if there is none."""
        subject = streams.adapter_aliased(tenant, adapter_id, alias_id)
        last = await self._bus.last(streams.ADAPTERS.name, subject)
        if last is None:
            return 0
        return int(last.parse(adapter_events.AdapterRevisionAliased).alias.epoch)


class BusLessonBook:
    """Port LessonBook: streams FEEDBACK and LESSONS folded, and steps added to LESSONS."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self, tenant: str) -> list[LessonRecord]:
        """All lessons of the tenant as of now."""
        fold = LessonFold()
        feedback = [streams.any_of(f"selm.feedback.created.{tenant}")]
        for delivery in await self._bus.read(streams.FEEDBACK.name, feedback):
            with _skipping_unreadable(delivery):
                event = delivery.parse(feedback_events.FeedbackEventCreated)
                record = lesson_events.lesson_of(tenant, delivery.sequence, event)
                if record is not None:
                    fold.receive(record)
        # Any state, this tenant, any lesson; streams spells single subjects only.
        steps = [f"selm.lesson.*.{tenant}.*"]
        for delivery in await self._bus.read(streams.LESSONS.name, steps):
            with _skipping_unreadable(delivery):
                message = delivery.parse(feedback_events.LessonAdvanced)
                step = lesson_events.step_of(message)
                if step is not None:
                    fold.step(tenant, message.lesson, step)
        return fold.records(tenant)

    async def advance(self, wish: LessonStepWish) -> None:
        """Publishes a step; repeats of one occasion are dropped."""
        lesson = wish.lesson
        step = LessonStep(wish.state, SERVICE, wish.resource, wish.reason, now())
        lesson_id = lesson_events.lesson_id_of(lesson.name)
        state = wish.state.lower()
        await self._bus.publish(
            streams.lesson_advanced(state, lesson.tenant, lesson_id),
            lesson_events.advanced(lesson.name, lesson.feedback_event, step),
            message_id=f"{SERVICE}.{lesson_id}.{state}.{wish.occasion}",
        )


@dataclass(frozen=True)
class TrainingConsumer:
    """Stream TRAINING, durable `trainer_train`: one request at a time per worker."""

    bus: Bus
    queue: TrainingQueue
    ack_wait_s: float = TRAIN_ACK_WAIT_S

    async def run(self) -> None:
        await self.bus.consume(
            streams.TRAINING.name,
            streams.TRAINERS,
            self._handle,
            subjects=list(streams.TRAINING.subjects),
            ack_wait_s=self.ack_wait_s,
            max_deliver=MAX_DELIVER,
        )

    async def _handle(self, delivery: Delivery) -> None:
        wish = delivery.parse(feedback_events.TrainingRequested)
        request = wish.training_request
        tenant = streams.tenant_of(delivery.subject)
        request_id = names.parse(names.TRAINING_REQUEST, request.name)
        adapter_id = names.parse(names.ADAPTER, request.adapter)
        if request_id is None or adapter_id is None:
            raise SelmError("INTERNAL", f"training request {request.name!r} names no adapter")
        order = Order(
            tenant, request_id[0], adapter_id[0], request.from_base, wish.max_author_share
        )
        await self.queue.carry_out(order, delivery.in_progress)


@dataclass(frozen=True)
class CancellationWatch:
    """Ends the jobs of requests that feedback_svc has marked as cancelled."""

    cancellations: Cancellations
    desk: Desk

    async def run(self) -> None:
        """Runs until cancelled; after a start every mark is looked at again."""
        async for tenant, request_id in self.cancellations.watch():
            try:
                await patiently(partial(self.desk.cancel_request, tenant, request_id))
            except SelmError as error:
                _log.error("request_not_cancelled", request=request_id, error=str(error))


@dataclass(frozen=True)
class AcknowledgementConsumer:
    """Stream ROLLOUTS, durable `trainer_verify`: what replicas did with a revision."""

    bus: Bus
    verifier: Verifier

    async def run(self) -> None:
        await self.bus.consume(
            streams.ROLLOUTS.name,
            "trainer_verify",
            self._handle,
            subjects=list(streams.ROLLOUTS.subjects),
            ack_wait_s=VERIFY_ACK_WAIT_S,
        )

    async def _handle(self, delivery: Delivery) -> None:
        event = delivery.parse(adapter_events.AdapterRevisionAcknowledged)
        tenant = streams.tenant_of(delivery.subject)
        ids = names.parse(names.REVISION, event.adapter_revision)
        if ids is None:
            raise SelmError("INTERNAL", f"{delivery.subject} acknowledges no revision")
        done = event.acknowledgement
        if done.state == ReplicaAcknowledgement.STATE_REFUSED:
            why = render.failure_of(done.failure)
            await self.verifier.refused(tenant, ids[0], ids[1], done.replica, why)
            return
        if done.state == ReplicaAcknowledgement.STATE_SERVING:
            await self.verifier.serving(tenant, ids[0], ids[1], delivery.in_progress)


@contextmanager
def _skipping_unreadable(delivery: Delivery) -> Iterator[None]:
    """One message of another version must not keep all lessons of its tenant from training."""
    try:
        yield
    except (SelmError, ValueError) as error:
        _log.error("unreadable", subject=delivery.subject, seq=delivery.sequence, error=str(error))
