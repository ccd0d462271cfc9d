"""What memory_svc hears and says on the bus.

Hears FEEDBACK (corrections become memories) and LESSONS (proven ones retire, rolled back ones
return). Says LessonAdvanced REMEMBERED, SUPERSEDED and RETIRED. Every message may come twice: what
is said again has the same message id.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from memory_svc.applied import AppliedEvents
from memory_svc.core import Memory, MemoryType, Visibility, memory_id_of
from memory_svc.memories import LessonNews, Memories
from memory_svc.supersession import Outcome, Superseded
from selm import names, streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated, LessonAdvanced
from selm.api.feedback.v1.feedback_event_pb2 import Consent, FeedbackEvent
from selm.bus import Bus
from selm.bus_errors import broker_errors
from selm.delivery import Delivery
from selm.lesson_events import advanced, datetime_of, lesson_id_of, step_of
from selm.lessons import LessonState, LessonStep
from selm.testing import failpoint

SERVICE = "memory_svc"
TRAINER = "trainer_svc"
REMEMBER = "memory_remember"
RETIRE = "memory_retire"
_FEEDBACK_SUBJECTS = (streams.any_of("selm.feedback.created"),)
_LESSON_SUBJECTS = (
    streams.any_of("selm.lesson.verified"),
    streams.any_of("selm.lesson.remembered"),
)


class MemoryEvents:
    """The two consumers of this service."""

    def __init__(
        self, bus: Bus, memories: Memories, applied: AppliedEvents, clock: Callable[[], datetime]
    ) -> None:
        self._bus = bus
        self._memories = memories
        self._applied = applied
        self._clock = clock

    async def remember(self) -> None:
        """Runs until cancelled: corrections become memories, in the order they were given."""
        await self._bus.consume(
            streams.FEEDBACK.name, REMEMBER, self._on_feedback, subjects=_FEEDBACK_SUBJECTS
        )

    async def retire(self) -> None:
        """Runs until cancelled: memories follow what becomes of their lessons."""
        await self._bus.consume(
            streams.LESSONS.name, RETIRE, self._on_lesson, subjects=_LESSON_SUBJECTS
        )

    async def _on_feedback(self, delivery: Delivery) -> None:
        tenant = streams.tenant_of(delivery.subject)
        event = delivery.parse(FeedbackEventCreated).feedback_event
        draft = draft_of(tenant, delivery.sequence, event, self._clock())
        if draft is not None:
            outcome = await self._memories.remember(draft)
            # Searches see it from here on, whether or not the bus takes our news at once.
            self._applied.note(delivery.sequence)
            failpoint("memory.before_announce")
            await self._announce(draft, outcome)
        self._applied.note(delivery.sequence)

    async def _on_lesson(self, delivery: Delivery) -> None:
        message = delivery.parse(LessonAdvanced)
        step = step_of(message)
        if step is None:
            return
        news = _news_of(delivery, message, step)
        if step.state is LessonState.VERIFIED:
            memory = await self._memories.retire(news)
            if memory is not None:
                said_id = f"{_said_id(LessonState.RETIRED, news.lesson)}-{news.sequence}"
                step = self._step(LessonState.RETIRED, memory.name, "the weights answer it")
                await self._say(news.tenant, news.lesson, news.feedback_event, step, said_id)
        elif step.state is LessonState.REMEMBERED and step.service == TRAINER:
            await self._memories.revive(news)

    async def _announce(self, draft: Memory, outcome: Outcome) -> None:
        memory = outcome.memory
        if outcome.is_live and draft.lesson and memory.lesson == draft.lesson:
            step = self._step(LessonState.REMEMBERED, memory.name, "")
            said_id = _said_id(LessonState.REMEMBERED, draft.lesson)
            await self._say(draft.tenant, draft.lesson, draft.feedback_event, step, said_id)
        for item in outcome.superseded:
            await self._announce_superseded(item)

    async def _announce_superseded(self, item: Superseded) -> None:
        memory = item.memory
        if not memory.lesson:
            return
        step = self._step(LessonState.SUPERSEDED, item.by, item.reason)
        said_id = _said_id(LessonState.SUPERSEDED, memory.lesson)
        await self._say(memory.tenant, memory.lesson, memory.feedback_event, step, said_id)

    async def _say(
        self, tenant: str, lesson: str, feedback_event: str, step: LessonStep, message_id: str
    ) -> None:
        subject = streams.lesson_advanced(step.state.lower(), tenant, lesson_id_of(lesson))
        message = advanced(lesson, feedback_event, step)
        await self._bus.publish(subject, message, message_id=message_id)

    def _step(self, state: LessonState, resource: str, reason: str) -> LessonStep:
        return LessonStep(state, SERVICE, resource, reason, self._clock())


async def acknowledged_floor(bus: Bus) -> int:
    """Up to where all replicas together have applied FEEDBACK; BUS_UNAVAILABLE if unknown."""
    with broker_errors():
        info = await bus.connection.jetstream().consumer_info(streams.FEEDBACK.name, REMEMBER)
    return int(info.ack_floor.stream_seq)


def draft_of(tenant: str, sequence: int, event: FeedbackEvent, now: datetime) -> Memory | None:
    """The memory that a feedback event asks for; None if it corrects nothing."""
    if event.WhichOneof("signal") != "correction" or event.state != FeedbackEvent.STATE_ACCEPTED:
        return None
    is_shared = event.consent >= Consent.CONSENT_SHARED_ADAPTER
    return Memory(
        tenant=tenant,
        user=event.user or names.ANONYMOUS_USER,
        memory_id=memory_id_of(tenant, event.name),
        type=MemoryType.CORRECTION,
        text=event.correction.text,
        question=event.correction.question,
        subject_key="",
        visibility=Visibility.SHARED if is_shared else Visibility.PRIVATE,
        labels=dict(event.labels),
        feedback_event=event.name,
        generation=event.generation,
        lesson=event.lesson,
        author=event.author,
        sequence=sequence,
        create_time=datetime_of(event.create_time),
        update_time=now,
    )


def _news_of(delivery: Delivery, message: LessonAdvanced, step: LessonStep) -> LessonNews:
    is_revision = names.parse(names.REVISION, step.resource) is not None
    return LessonNews(
        tenant=streams.tenant_of(delivery.subject),
        lesson=message.lesson,
        feedback_event=message.feedback_event,
        revision=step.resource if is_revision else "",
        sequence=delivery.sequence,
    )


def _said_id(state: LessonState, lesson: str) -> str:
    return f"memory-{state.lower()}-{lesson_id_of(lesson)}"


def utc_now() -> datetime:
    """The clock of this service; to the microsecond, as stored."""
    return datetime.now(UTC)
