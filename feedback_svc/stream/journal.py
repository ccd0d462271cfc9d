"""Follows FEEDBACK and LESSONS from their beginning and keeps what they say ready to be served.

Everything here is rebuilt by replay; not ready before both streams were read to their end once.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from typing import Any

from feedback_svc import core
from feedback_svc.stream.jetstream import Codec, EventStream
from feedback_svc.stream.lessons import LessonBook
from selm import streams
from selm.bus import Bus
from selm.delivery import CaughtUp, Delivery
from selm.errors import SelmError, not_found, unavailable
from selm.lessons import LessonRecord
from selm.log import get_logger

_log = get_logger("feedback_svc.journal")


class Position:
    """How far a stream was read, and those who wait for a sequence of it."""

    def __init__(self) -> None:
        self.sequence = 0
        self.is_caught_up = asyncio.Event()
        self._moved = asyncio.Condition()

    async def move(self, sequence: int) -> None:
        async with self._moved:
            # Assigned, not maximised: a broker that lost its disk counts from 1 again.
            self.sequence = sequence
            self._moved.notify_all()

    async def reach(self, sequence: int, timeout_s: float) -> bool:
        """Wait until the stream was read up to there; False if that took too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.sequence >= sequence)
                return True
        return False


class Journal:
    """Events and lessons of all tenants, as the streams tell them."""

    def __init__(self, stream: EventStream, codec: Codec, timeout_s: float) -> None:
        self._stream = stream
        self._codec = codec
        self._timeout_s = timeout_s
        self._events: dict[tuple[str, str], core.FeedbackRecord] = {}
        self._feedback = Position()
        self._steps = Position()
        self.book = LessonBook()

    @property
    def is_ready(self) -> bool:
        return self._feedback.is_caught_up.is_set() and self._steps.is_caught_up.is_set()

    def followers(self, bus: Bus) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the calls, each until cancelled."""
        return [
            self._follow(bus, streams.FEEDBACK, self._feedback, self._take_event),
            self._follow(bus, streams.LESSONS, self._steps, self._take_step),
            self._go_live(),
        ]

    def require_ready(self) -> None:
        """Raise what a caller should hear while nothing can be recorded."""
        if not self._stream.is_connected:
            raise unavailable("BUS_UNAVAILABLE", "NATS does not answer", stream="FEEDBACK")
        if not self.is_ready:
            raise unavailable("STARTING", "feedback is being read", waiting_for="replay")

    def event(self, tenant: str, name: str) -> core.FeedbackRecord | None:
        return self._events.get((tenant, name))

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
        if (tenant, name) not in self._events:
            await self.catch_up(tenant)
        record = self._events.get((tenant, name))
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
        _log.info("journal_ready", events=len(self._events), sequence=self._feedback.sequence)

    async def _follow(
        self,
        bus: Bus,
        spec: streams.StreamSpec,
        position: Position,
        take: Callable[[Delivery], None],
    ) -> None:
        async for item in bus.replay(spec.name, spec.subjects):
            if isinstance(item, CaughtUp):
                position.is_caught_up.set()
                continue
            try:
                take(item)
            except (SelmError, ValueError) as error:
                # One message of another version must not keep everybody's feedback from being read.
                _log.error("unreadable", stream=spec.name, seq=item.sequence, error=str(error))
            await position.move(item.sequence)

    def _take_event(self, delivery: Delivery) -> None:
        record, lesson = self._codec.feedback(delivery)
        key = (record.tenant, record.name)
        if key in self._events:
            return  # stored twice after a long outage: the first one counts
        self._events[key] = replace(record, sequence=delivery.sequence)
        if lesson is not None:
            self.book.receive(lesson)

    def _take_step(self, delivery: Delivery) -> None:
        news = self._codec.step(delivery)
        if news is not None:
            self.book.step(news.tenant, news.lesson, news.step)
