"""Purges the copies of what a user said: stored generations, and messages nobody could handle."""

from collections.abc import AsyncGenerator, AsyncIterator, Set
from contextlib import aclosing
from datetime import datetime
from typing import Protocol, cast

from feedback_svc.erasure.eraser import Eraser
from selm import streams
from selm.bus import Bus
from selm.delivery import CaughtUp, Delivery
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
        prefix = streams.generation_finished(order.tenant, "-").rpartition(".")[0]
        return [
            delivery.sequence
            async for delivery in self._stored(streams.GENERATIONS, prefix)
            if self._is_generation(order, delivery)
        ]

    async def purge_generations(self, sequences: list[int]) -> None:
        await self._eraser.erase(streams.GENERATIONS.name, sequences[:1])
        failpoint("feedback.erasure_generation")
        await self._eraser.erase(streams.GENERATIONS.name, sequences[1:])

    async def purge_dead_letters(self, order: ErasureOrder, purged: Purged) -> None:
        """Copies of the user's messages that a consumer gave up on."""
        prefix = streams.dead_letter_created(order.tenant, "-").rpartition(".")[0]
        erased = {name for event in purged.events for name in (event.name, event.lesson) if name}
        sequences = [
            letter.sequence
            async for letter in self._stored(streams.DEAD_LETTERS, prefix)
            if self._codec.is_about(letter.message_type, letter.payload, erased)
            or self._is_generation(order, letter)
        ]
        await self._eraser.erase(streams.DEAD_LETTERS.name, sequences)

    def _is_generation(self, order: ErasureOrder, delivery: Delivery) -> bool:
        kind, payload = delivery.message_type, delivery.payload
        return self._codec.is_generation_of(kind, payload, order.user, order.time)

    async def _stored(self, spec: streams.StreamSpec, prefix: str) -> AsyncIterator[Delivery]:
        """What is stored now below a prefix, one by one: a tenant's may be more than memory."""
        replay = self._bus.replay(spec.name, [streams.any_of(prefix)])
        async with aclosing(cast(AsyncGenerator[Delivery | CaughtUp, None], replay)) as items:
            async for item in items:
                if isinstance(item, CaughtUp):
                    return
                yield item
