"""Erases a user's feedback and lessons, in an order in which a crash anywhere repeats safely.

draw the line    an empty FeedbackErased in FEEDBACK itself: what stands before it goes, what
                 comes later is new data and stays; found again by a repeat
list             FeedbackErased names every event before any is erased, so that its request id
                 counts once for ever, and its lesson is never trained again
erase            each of these messages, which then leaves the broker's disk too
look again       a decision on an old event may have come behind the line meanwhile
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from google.protobuf.message import Message

from feedback_svc.erasure.eraser import Eraser
from selm import names, streams
from selm.bus import Bus
from selm.delivery import Delivery
from selm.erasure_bus import ErasureStream, Purged
from selm.erasures import ErasedEvent, ErasureOrder
from selm.errors import SelmError
from selm.testing import failpoint

# Of about 200 bytes each; the bus takes messages of 1 MiB and more.
_CHUNK = 1000


class FeedbackCodec(Protocol):
    """Messages of FEEDBACK; see events.erasure."""

    def feedback_erased(self, erasure: str, events: Sequence[ErasedEvent]) -> Message: ...

    def stored_event(self, delivery: Delivery) -> tuple[ErasedEvent, int]: ...


class FeedbackPurge:
    """Takes one user's events out of FEEDBACK, and the steps of their lessons out of LESSONS."""

    def __init__(self, bus: Bus, codec: FeedbackCodec) -> None:
        self._bus = bus
        self._codec = codec
        self._eraser = Eraser(bus)
        self._erasures = ErasureStream(bus)

    async def purge(self, order: ErasureOrder) -> Purged:
        """All of the user that was stored before the erasure came to it; again, what is left."""
        cutoff = await self._line(order)
        while stale := await self._stale(order, cutoff):
            await self._list(order, [event for _, event in stale])
            failpoint("feedback.erasure_listed")
            sequences = [sequence for sequence, _ in stale]
            await self._eraser.erase(streams.FEEDBACK.name, sequences[:1])
            failpoint("feedback.erasure_erasing")
            await self._eraser.erase(streams.FEEDBACK.name, sequences[1:])
            failpoint("feedback.erasure_purged")
        purged = await self._erasures.purged(order)
        await self.purge_steps(order.tenant, purged.events)
        return purged

    async def purge_steps(self, tenant: str, events: Iterable[ErasedEvent]) -> None:
        """What was said of the lessons that these events were."""
        for lesson in {event.lesson for event in events if event.lesson}:
            ids = names.parse(names.LESSON, lesson)
            if ids is not None:
                # Any state; streams spells single subjects only.
                subject = f"selm.lesson.*.{tenant}.{ids[0]}"
                await self._eraser.purge(streams.LESSONS.name, subject)

    async def _line(self, order: ErasureOrder) -> int:
        purged = await self._erasures.purged(order)
        if purged.cutoff:
            return purged.cutoff
        ack = await self._publish(order, [], "line")
        failpoint("feedback.erasure_line")
        return ack

    async def _stale(self, order: ErasureOrder, cutoff: int) -> list[tuple[int, ErasedEvent]]:
        """Messages of the user about events from before the line, each with its place."""
        subject = streams.feedback_created(order.tenant, order.user)
        found = []
        for delivery in await self._bus.read(streams.FEEDBACK.name, [subject]):
            try:
                event, first_sequence = self._codec.stored_event(delivery)
            except SelmError:
                # Of a version that this one cannot read: purged with the others, listed nowhere.
                event, first_sequence = ErasedEvent(""), delivery.sequence
            if first_sequence < cutoff:
                found.append((delivery.sequence, event))
        return found

    async def _list(self, order: ErasureOrder, events: Sequence[ErasedEvent]) -> None:
        listed = {event.name for event in (await self._erasures.purged(order)).events}
        new = {e.name: e for e in events if e.name and e.name not in listed}
        fresh = list(new.values())
        for start in range(0, len(fresh), _CHUNK):
            chunk = fresh[start : start + _CHUNK]
            await self._publish(order, chunk, chunk[0].name)

    async def _publish(
        self, order: ErasureOrder, events: Sequence[ErasedEvent], occasion: str
    ) -> int:
        ack = await self._bus.publish(
            streams.feedback_erased(order.tenant),
            self._codec.feedback_erased(order.name, events),
            message_id=f"{order.tenant}.{order.name}.{occasion}",
        )
        return ack.sequence
