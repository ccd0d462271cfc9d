"""What a tenant was taught, read from stream FEEDBACK as it stands: events and their exchanges."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from feedback_svc import core
from feedback_svc.filters import matches
from feedback_svc.signals import Comment, Correction
from feedback_svc.stream.event_book import EventBook
from feedback_svc.stream.jetstream import Codec
from selm import streams
from selm.bus import Bus
from selm.delivery import CaughtUp, Delivery
from selm.errors import SelmError
from selm.log import get_logger

Told = tuple[core.FeedbackRecord, core.Exchange | None]

# Messages after which others get their turn.
_BREATH = 200
_log = get_logger("feedback_svc.datasets")


class FeedbackSource:
    """Reads all there is up to now, and does not wait for what replay has still to hear."""

    def __init__(self, bus: Bus, codec: Codec) -> None:
        self._bus = bus
        self._codec = codec

    async def read(self, tenant: str, wanted: core.EventFilter) -> list[Told]:
        """The events that fit, each after its newest decision."""
        book, exchanges = EventBook(), dict[str, core.Exchange]()
        async for delivery in self._stored(tenant):
            try:
                record, _ = self._codec.feedback(delivery)
                exchange = self._codec.exchange(delivery)
            except (SelmError, ValueError) as error:
                _log.error("unreadable", seq=delivery.sequence, error=str(error))
                continue
            book.add(record)
            if exchange is not None and not isinstance(record.signal, Correction | Comment):
                # Only what is learned from: the whole input may be a document.
                exchanges[record.name] = replace(exchange, content=b"")
        events = book.of_tenant(tenant)
        return [(one, exchanges.get(one.name)) for one in events if matches(one, wanted)]

    async def erased(self, tenant: str) -> set[str]:
        """Names of the events that were purged."""
        subject = streams.feedback_erased(tenant)
        deliveries = await self._bus.read(streams.FEEDBACK.name, [subject])
        return {one.name for delivery in deliveries for one in self._codec.erased(delivery)[1]}

    async def _stored(self, tenant: str) -> AsyncGenerator[Delivery]:
        prefix = streams.feedback_created(tenant, "").rpartition(".")[0]
        replay = self._bus.replay(streams.FEEDBACK.name, [streams.any_of(prefix)])
        number = 0
        async with aclosing(cast(AsyncGenerator[Delivery | CaughtUp, None], replay)) as items:
            async for item in items:
                if isinstance(item, CaughtUp):
                    return
                yield item
                number += 1
                if number % _BREATH == 0:
                    await asyncio.sleep(0)
