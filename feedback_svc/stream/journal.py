"""What this process knows of the streams FEEDBACK and LESSONS: replayed at start, then followed.

Serves reads at once and waits, where it must, until replay has reached what was acknowledged. The
broker holds the truth; losing this loses nothing, and a broker that lost it empties this.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from feedback_svc import core
from feedback_svc.stream.event_book import EventBook
from feedback_svc.stream.jetstream import Codec, EventStream
from feedback_svc.stream.lessons import LessonBook
from feedback_svc.stream.metrics import REWOUND
from feedback_svc.stream.position import Position
from selm import streams
from selm.bus import Bus
from selm.delivery import CaughtUp, Delivery, Rewound
from selm.errors import SelmError, not_found, unavailable
from selm.lessons import Consent, LessonRecord
from selm.log import get_logger

_log = get_logger("feedback_svc.journal")


class _RewoundError(Exception):
    """A stream is not the one that was read so far."""


class Journal:
    """Events and lessons of all tenants, as the streams tell them."""

    def __init__(self, stream: EventStream, codec: Codec, timeout_s: float) -> None:
        self._stream = stream
        self._codec = codec
        self._timeout_s = timeout_s
        self._newest_noted = 0
        self._feedback = Position()
        self._steps = Position()
        self.event_book = EventBook()
        self.book = LessonBook()

    @property
    def is_ready(self) -> bool:
        return self._feedback.is_caught_up.is_set() and self._steps.is_caught_up.is_set()

    @property
    def sequence(self) -> int:
        """Place in FEEDBACK up to which this was read."""
        return self._feedback.sequence

    def followers(self, bus: Bus) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the calls, each until cancelled."""
        return [self._follow_both(bus), self._go_live()]

    def require_ready(self) -> None:
        """Raise what a caller should hear while nothing can be recorded."""
        if not self._stream.is_connected:
            raise unavailable("BUS_UNAVAILABLE", "NATS does not answer", stream="FEEDBACK")
        if not self.is_ready:
            raise unavailable("STARTING", "feedback is being read", waiting_for="replay")

    def event(self, tenant: str, name: str) -> core.FeedbackRecord | None:
        return self.event_book.find(tenant, name)

    def events(self, tenant: str) -> list[core.FeedbackRecord]:
        """Events of a tenant by sequence, each after its newest decision."""
        return self.event_book.of_tenant(tenant)

    def note(self, record: core.FeedbackRecord, lesson: LessonRecord | None) -> None:
        """Know an acknowledged event at once, before replay comes to it."""
        self._newest_noted = max(self._newest_noted, record.sequence)
        if self.event_book.add(record) and lesson is not None:
            self.book.receive(lesson)

    async def reach(self, sequence: int) -> bool:
        """Wait for an event of that position; False if replay lags behind the time limit."""
        return await self._feedback.reach(sequence, self._timeout_s)

    async def catch_up(self, tenant: str) -> None:
        """Wait for whatever was acknowledged to this tenant by now, by any replica."""
        self.require_ready()
        newest = await self._stream.last_sequence(tenant)
        if not await self.reach(newest):
            raise unavailable("BUS_UNAVAILABLE", "replay lags behind", stream="FEEDBACK")

    async def find_event(self, tenant: str, name: str) -> core.FeedbackRecord:
        """An event by name; before NOT_FOUND the newest acknowledged ones are waited for."""
        if self.event(tenant, name) is None:
            await self.catch_up(tenant)
        record = self.event(tenant, name)
        if record is None:
            raise not_found(name)
        return record

    async def find_lesson(self, tenant: str, name: str) -> LessonRecord:
        if self.book.find(tenant, name) is None:
            await self.catch_up(tenant)
        lesson = self.book.find(tenant, name)
        if lesson is None:
            raise not_found(name)
        return lesson

    async def watch_lesson(self, tenant: str, name: str) -> AsyncGenerator[LessonRecord, None]:
        await self.find_lesson(tenant, name)
        async with contextlib.aclosing(self.book.watch(tenant, name)) as frames:
            async for lesson in frames:
                yield lesson

    async def _go_live(self) -> None:
        await self._feedback.is_caught_up.wait()
        await self._steps.is_caught_up.wait()
        self.book.is_live = True
        _log.info("journal_ready", events=len(self.event_book), sequence=self.sequence)

    async def _follow_both(self, bus: Bus) -> None:
        """Read both streams; both anew when the broker lost something of either."""
        noted = {streams.FEEDBACK.name: lambda: self._newest_noted}
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    for spec, position, take in (
                        (streams.FEEDBACK, self._feedback, self._take_feedback),
                        (streams.LESSONS, self._steps, self._take_step),
                    ):
                        known = noted.get(spec.name, lambda: 0)
                        group.create_task(self._follow(bus, spec, position, take, known))
            except* _RewoundError:
                await self._forget()

    async def _follow(
        self,
        bus: Bus,
        spec: streams.StreamSpec,
        position: Position,
        take: Callable[[Delivery], None],
        known: Callable[[], int],
    ) -> None:
        async for item in bus.follow(spec.name, spec.subjects, known=known):
            if isinstance(item, CaughtUp):
                position.is_caught_up.set()
                # Also where the newest messages are gone: nobody shall wait for what was purged.
                await position.move(max(position.sequence, item.last_sequence))
                continue
            if isinstance(item, Rewound):
                REWOUND.labels(stream=spec.name).inc()
                raise _RewoundError
            try:
                take(item)
            except (SelmError, ValueError) as error:
                # One message of another version must not keep everybody's feedback from being read.
                _log.error("unreadable", stream=spec.name, seq=item.sequence, error=str(error))
            await position.move(item.sequence)

    async def _forget(self) -> None:
        """The broker lost what it had stored: say so, and serve nothing that is not there."""
        _log.critical("feedback_lost", num_events=len(self.event_book))
        for position in (self._feedback, self._steps):
            position.is_caught_up.clear()
            await position.move(0)
        self._newest_noted = 0
        self.event_book.clear()
        self.book.clear()

    def _take_feedback(self, delivery: Delivery) -> None:
        if delivery.subject.startswith(streams.FEEDBACK_ERASED_PREFIX):
            self._take_erasure(delivery)
        else:
            self._take_event(delivery)

    def _take_event(self, delivery: Delivery) -> None:
        tenant, name = streams.tenant_of(delivery.subject), delivery.message_id
        known = self.event(tenant, name)
        # Recorded by this process and noted then: not worth reading again.
        if known is None or known.sequence != delivery.sequence:
            record, lesson = self._codec.feedback(delivery)
            name = record.name
            self.note(record, lesson)
        self.event_book.tell(tenant, name, delivery.sequence)

    def _take_erasure(self, delivery: Delivery) -> None:
        tenant, events = self._codec.erased(delivery)
        self._stream.forget_generations()
        for erased in events:
            record = self.event_book.erase(tenant, erased)
            if record.lesson:
                self.book.erase(_erased_lesson(record))
            self.event_book.tell(tenant, record.name, delivery.sequence)

    def _take_step(self, delivery: Delivery) -> None:
        news = self._codec.step(delivery)
        if news is not None:
            self.book.step(news.tenant, news.lesson, news.step)


def _erased_lesson(record: core.FeedbackRecord) -> LessonRecord:
    """Stands in for the lesson of a purged event."""
    now = datetime.now(UTC)
    return LessonRecord(
        tenant=record.tenant,
        name=record.lesson,
        feedback_event=record.name,
        sequence=record.sequence,
        generation=record.generation,
        user="",
        author=record.author,
        adapter="",
        consent=Consent.MEMORY_ONLY,
        question="",
        answer="",
        paraphrases=(),
        subject_key="",
        create_time=record.create_time,
        update_time=now,
    )
