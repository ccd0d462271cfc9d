"""Append and look up: the few calls that cross to the broker, each under a time limit.

Knows subjects and message ids; what the messages mean is the codec's business.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from google.protobuf.message import Message

from feedback_svc import core, learning
from feedback_svc.dead_letters import DeadLetter
from feedback_svc.stream.generations import RecentGenerations
from selm import names, streams
from selm.bus import Bus, PublishAck
from selm.bus_errors import broker_errors
from selm.delivery import Delivery
from selm.group_commit import GroupCommitter
from selm.lessons import LessonRecord, LessonStep

_LOOKUP_INTERVAL_S = 0.05


class Codec(Protocol):
    """Messages of the bus to and from core; see events.Codec."""

    def feedback_created(
        self, record: core.FeedbackRecord, exchange: core.Exchange | None
    ) -> Message: ...

    def feedback_decided(self, stored: Delivery, record: core.FeedbackRecord) -> Message: ...

    def lesson_advanced(self, lesson: LessonRecord, step: LessonStep) -> Message: ...

    def training_requested(
        self, request: learning.TrainingRequest, max_author_share: float
    ) -> Message: ...

    def generation(self, delivery: Delivery) -> core.GenerationRecord: ...

    def feedback(self, delivery: Delivery) -> tuple[core.FeedbackRecord, LessonRecord | None]: ...

    def lesson(
        self, record: core.FeedbackRecord, exchange: core.Exchange | None
    ) -> LessonRecord | None: ...

    def exchange(self, delivery: Delivery) -> core.Exchange | None: ...

    def redacted(self, exchange: core.Exchange, clean: Callable[[str], str]) -> core.Exchange: ...

    def erased(self, delivery: Delivery) -> tuple[str, list[core.Erased]]: ...

    def step(self, delivery: Delivery) -> core.StepNews | None: ...

    def job(self, delivery: Delivery) -> learning.JobNews | None: ...

    def dead_letter(self, delivery: Delivery) -> DeadLetter: ...


@asynccontextmanager
async def answering(timeout_s: float) -> AsyncIterator[None]:
    """BUS_UNAVAILABLE if the block, which waits for the broker, takes longer."""
    with broker_errors():
        async with asyncio.timeout(timeout_s):
            yield


class EventStream:
    """Publishes and looks up; a broker that stays silent is BUS_UNAVAILABLE after `timeout_s`."""

    def __init__(self, bus: Bus, codec: Codec, committer: GroupCommitter, timeout_s: float) -> None:
        self._bus = bus
        self._codec = codec
        self._committer = committer
        self._timeout_s = timeout_s
        self._generations = RecentGenerations()

    @property
    def is_connected(self) -> bool:
        return self._bus.is_connected

    async def append(
        self, record: core.FeedbackRecord, exchange: core.Exchange | None
    ) -> PublishAck:
        """Store an event; it is on disk when this returns. The event's id makes repeats one."""
        return await self._committer.append(
            streams.feedback_created(record.tenant, record.user),
            self._codec.feedback_created(record, exchange),
            message_id=record.name,
        )

    def lesson(
        self, record: core.FeedbackRecord, exchange: core.Exchange | None
    ) -> LessonRecord | None:
        """What the event teaches, as whoever reads it from the stream will see it."""
        return self._codec.lesson(record, exchange)

    async def append_decision(
        self, before: core.FeedbackRecord, after: core.FeedbackRecord
    ) -> PublishAck:
        """Store a decision; of two that follow the same event state, the broker takes one."""
        stored = await self.stored(before)
        return await self._committer.append(
            streams.feedback_created(after.tenant, after.user),
            self._codec.feedback_decided(stored, after),
            message_id=decision_message_id(after),
        )

    async def stored(self, record: core.FeedbackRecord) -> Delivery:
        """The message that recorded an event; RESOURCE_NOT_FOUND if it was purged since."""
        async with answering(self._timeout_s):
            return await self._bus.get(streams.FEEDBACK.name, record.sequence)

    async def exchange(self, record: core.FeedbackRecord) -> core.Exchange | None:
        """What was asked and answered when the event was recorded."""
        return self._codec.exchange(await self.stored(record))

    async def generation(
        self, tenant: str, name: str, wait_s: float
    ) -> core.GenerationRecord | None:
        """What inference_svc published of a generation, waiting a little since it comes late."""
        held = self._generations.find(tenant, name)
        if held is not None:
            return held
        record = await self._published_generation(tenant, name, wait_s)
        if record is not None:
            self._generations.keep(tenant, record)
        return record

    def forget_generations(self) -> None:
        """Look every generation up again: some were purged."""
        self._generations.clear()

    async def _published_generation(
        self, tenant: str, name: str, wait_s: float
    ) -> core.GenerationRecord | None:
        ids = names.parse(names.GENERATION, name)
        subject = streams.generation_finished(tenant, ids[0] if ids else "")
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        while True:
            async with answering(self._timeout_s):
                found = await self._bus.last(streams.GENERATIONS.name, subject)
            if found is not None:
                return self._codec.generation(found)
            if clock() >= deadline:
                return None
            await asyncio.sleep(_LOOKUP_INTERVAL_S)

    async def last_sequence(self, tenant: str) -> int:
        """Position of the tenant's newest event; 0 if there is none."""
        subject = streams.any_of(streams.feedback_created(tenant, "").rpartition(".")[0])
        async with answering(self._timeout_s):
            newest = await self._bus.last(streams.FEEDBACK.name, subject)
        return newest.sequence if newest else 0

    async def announce_step(self, lesson: LessonRecord, step: LessonStep) -> None:
        """Publish a step of a lesson; the same step about the same thing is published once."""
        ids = names.parse(names.LESSON, lesson.name) or ("",)
        await self._bus.publish(
            streams.lesson_advanced(step.state.lower(), lesson.tenant, ids[0]),
            self._codec.lesson_advanced(lesson, step),
            message_id=f"{lesson.name}:{step.state}:{step.resource}",
            timeout_s=self._timeout_s,
        )

    async def adapter_exists(self, tenant: str, name: str) -> bool:
        """True for the default adapter, which trainer_svc makes when it first starts."""
        if name == names.DEFAULT_ADAPTER:
            return True
        ids = names.parse(names.ADAPTER, name) or ("",)
        async with answering(self._timeout_s):
            return await self._bus.kv("adapters").get(f"{tenant}.{ids[0]}") is not None


def decision_message_id(record: core.FeedbackRecord) -> str:
    """The id of the message that holds the newest decision on an event."""
    return f"{record.name}:{record.num_decisions}"
