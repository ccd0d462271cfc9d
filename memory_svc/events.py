"""What memory_svc hears on the bus; what it says there is in `announcements`.

Hears FEEDBACK (corrections become memories) and LESSONS (proven ones retire, rolled back ones
return). Every message may come twice.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from memory_svc.announcements import Announcements
from memory_svc.applied import AppliedEvents
from memory_svc.core import Memory, MemoryType, Visibility, memory_id_of
from memory_svc.verbs.memories import LessonNews, Memories
from memory_svc.verbs.supersession import Outcome
from selm import names, streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated, LessonAdvanced
from selm.api.feedback.v1.feedback_event_pb2 import Consent, FeedbackEvent
from selm.bus import Bus
from selm.bus_errors import broker_errors
from selm.delivery import Delivery
from selm.errors import SelmError
from selm.lesson_events import datetime_of, step_of
from selm.lessons import LessonState, LessonStep
from selm.log import get_logger
from selm.testing import failpoint

_log = get_logger("memory.events")

TRAINER = "trainer_svc"
REMEMBER = "memory_remember"
RETIRE = "memory_retire"
# Well under the 30 s after which the broker would deliver the news again.
_APPLY_WAIT_S = 5.0
_FEEDBACK_SUBJECTS = (streams.any_of("selm.feedback.created"),)
_LESSON_SUBJECTS = (
    streams.any_of("selm.lesson.verified"),
    streams.any_of("selm.lesson.remembered"),
)


class MemoryEvents:
    """The two consumers of this service."""

    def __init__(
        self,
        bus: Bus,
        memories: Memories,
        applied: AppliedEvents,
        announcements: Announcements,
        clock: Callable[[], datetime],
        last_sequence: Callable[[], Awaitable[int]],
    ) -> None:
        """`last_sequence` tells the place of the newest event in FEEDBACK."""
        self._bus = bus
        self._memories = memories
        self._applied = applied
        self._announcements = announcements
        self._clock = clock
        self._last_sequence = last_sequence

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
        message = delivery.parse(FeedbackEventCreated)
        draft = draft_of(tenant, delivery.sequence, message.feedback_event, self._clock())
        if draft is not None:
            outcome = await self._outcome(draft, message.decision_count)
            # Searches see it from here on, whether or not the bus takes our news at once.
            self._applied.note(delivery.sequence)
            failpoint("memory.before_announce")
            await self._announcements.remembered(draft, outcome)
        self._applied.note(delivery.sequence)

    async def _outcome(self, draft: Memory, num_decisions: int) -> Outcome:
        """What came of an event, or of a decision on it: it may reach further than it did."""
        moved = None
        if num_decisions:
            moved = await self._memories.follow_reach(draft, num_decisions)
        return moved or await self._memories.remember(draft)

    async def _on_lesson(self, delivery: Delivery) -> None:
        message = delivery.parse(LessonAdvanced)
        step = step_of(message)
        if step is None:
            return
        news = _news_of(delivery, message, step)
        try:
            await self._follow(news, step)
        except SelmError as error:
            if error.reason != "RESOURCE_NOT_FOUND":
                raise
            await self._follow_again(news, step)

    async def _follow(self, news: LessonNews, step: LessonStep) -> None:
        if step.state is LessonState.VERIFIED:
            memory = await self._memories.retire(news)
            if memory is not None:
                await self._announcements.retired(memory, news)
        elif step.state is LessonState.REMEMBERED and step.service == TRAINER:
            await self._memories.revive(news)

    async def _follow_again(self, news: LessonNews, step: LessonStep) -> None:
        """The lesson is unknown: its event, which is older than the news, may not be applied yet.

        While it is not, CONSISTENCY_NOT_REACHED holds the news and spends no delivery.
        """
        await self._applied.wait_for_all(await self._last_sequence(), _APPLY_WAIT_S)
        try:
            await self._follow(news, step)
        except SelmError as error:
            if error.reason != "RESOURCE_NOT_FOUND":
                raise
            # It was folded into a memory that now stands for a newer lesson: no row is its own.
            _log.info("lesson_has_no_memory", lesson=news.lesson, state=step.state)


async def last_sequence(bus: Bus) -> int:
    """Place of the newest event in FEEDBACK, not of what was said about purged ones."""
    newest = await bus.last(streams.FEEDBACK.name, _FEEDBACK_SUBJECTS[0])
    return newest.sequence if newest else 0


async def acknowledged_floor(bus: Bus) -> int:
    """Up to where all replicas together have applied FEEDBACK; BUS_UNAVAILABLE if unknown."""
    with broker_errors():
        info = await bus.connection.jetstream().consumer_info(streams.FEEDBACK.name, REMEMBER)
    return int(info.ack_floor.stream_seq)


def draft_of(tenant: str, sequence: int, event: FeedbackEvent, now: datetime) -> Memory | None:
    """The memory that a feedback event asks for; None if it corrects nothing."""
    if event.WhichOneof("signal") != "correction" or event.state != FeedbackEvent.STATE_ACCEPTED:
        return None
    # Messages of before there was a reach have none.
    is_shared = (event.reach or event.consent) >= Consent.CONSENT_SHARED_ADAPTER
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
        # Of an event let in late its first place: it is no newer than what was said since.
        sequence=event.sequence or sequence,
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


def utc_now() -> datetime:
    """The clock of this service; to the microsecond, as stored."""
    return datetime.now(UTC)
