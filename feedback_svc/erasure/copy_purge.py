"""Purges the copies of what a user said: stored generations, and messages nobody could handle."""

from collections.abc import Set
from datetime import datetime
from typing import Protocol

from feedback_svc.erasure.eraser import Eraser
from selm import streams
from selm.bus import Bus
from selm.delivery import Delivery
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

    async def purge_dead_letters(self, order: ErasureOrder, purged: Purged) -> None:
        """Copies of the user's messages that a consumer gave up on."""
        subjects = [_of_tenant(streams.dead_letter_created(order.tenant, "-"))]
        erased = {name for event in purged.events for name in (event.name, event.lesson) if name}
        sequences = [
            letter.sequence
            async for letter in self._bus.stored(streams.DEAD_LETTERS.name, subjects)
            if self._codec.is_about(letter.message_type, letter.payload, erased)
            or self._is_generation(order, letter)
        ]
        await self._eraser.erase(streams.DEAD_LETTERS.name, sequences)

    def _is_generation(self, order: ErasureOrder, delivery: Delivery) -> bool:
        kind, payload = delivery.message_type, delivery.payload
        return self._codec.is_generation_of(kind, payload, order.user, order.time)


def _of_tenant(subject: str) -> str:
    """The filter for what stands beside a subject, whatever its last token."""
    return streams.any_of(subject.rpartition(".")[0])
