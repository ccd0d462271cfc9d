"""Purges the copies of what a user said: stored generations, and messages nobody could handle or
that shall be handled again."""

from collections.abc import AsyncGenerator, Set
from datetime import datetime
from typing import Protocol

import nats.js.errors

from feedback_svc.erasure.eraser import Eraser
from selm import streams
from selm.bus import Bus
from selm.bus_errors import broker_errors
from selm.delivery import Delivery, delivery_of_stored
from selm.erasure_bus import Purged
from selm.erasures import ErasureOrder
from selm.testing import failpoint


class GenerationCodec(Protocol):
    """Messages of GENERATIONS; see events.erasure."""

    def is_generation_of(
        self, message_type: str, payload: bytes, user: str, until: datetime
    ) -> bool: ...

    def is_about(self, message_type: str, payload: bytes, names: Set[str]) -> bool: ...


class CopyPurge:
    """Reads all that the tenant has in a stream, since only its content tells whose it is."""

    def __init__(self, bus: Bus, codec: GenerationCodec) -> None:
        self._bus = bus
        self._codec = codec
        self._eraser = Eraser(bus)

    async def generations(self, order: ErasureOrder) -> list[int]:
        """Places of the user's generations that began before the erasure was asked for."""
        subjects = [_of_tenant(streams.generation_finished(order.tenant, "-"))]
        return [
            delivery.sequence
            async for delivery in self._bus.stored(streams.GENERATIONS.name, subjects)
            if self._is_generation(order, delivery)
        ]

    async def purge_generations(self, sequences: list[int]) -> None:
        await self._eraser.erase(streams.GENERATIONS.name, sequences[:1])
        failpoint("feedback.erasure_generation")
        await self._eraser.erase(streams.GENERATIONS.name, sequences[1:])

    async def purge_copies(self, order: ErasureOrder, purged: Purged) -> None:
        """Copies of the user's messages: to be delivered again, or given up by a consumer."""
        erased = {name for event in purged.events for name in (event.name, event.lesson) if name}
        letters = _of_tenant(streams.dead_letter_created(order.tenant, "-"))
        for stream, copies in (
            (streams.REDELIVERIES.name, self._queued(order.tenant)),
            (streams.DEAD_LETTERS.name, self._bus.stored(streams.DEAD_LETTERS.name, [letters])),
        ):
            sequences = [
                copy.sequence
                async for copy in copies
                if self._codec.is_about(copy.message_type, copy.payload, erased)
                or self._is_generation(order, copy)
            ]
            await self._eraser.erase(stream, sequences)

    async def _queued(self, tenant: str) -> AsyncGenerator[Delivery, None]:
        """What waits in REDELIVERIES, place by place: a work queue takes no second consumer."""
        subject = _of_tenant(streams.redelivery_requested(tenant, "-"))
        jetstream, place = self._bus.connection.jetstream(), 1
        while True:
            with broker_errors():
                try:
                    message = await jetstream.get_msg(
                        streams.REDELIVERIES.name, place, subject, next=True
                    )
                except nats.js.errors.NotFoundError:
                    return
            copy = delivery_of_stored(message)
            yield copy
            place = copy.sequence + 1

    def _is_generation(self, order: ErasureOrder, delivery: Delivery) -> bool:
        kind, payload = delivery.message_type, delivery.payload
        return self._codec.is_generation_of(kind, payload, order.user, order.time)


def _of_tenant(subject: str) -> str:
    """The filter for what stands beside a subject, whatever its last token."""
    return streams.any_of(subject.rpartition(".")[0])
