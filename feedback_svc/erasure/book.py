"""All erasures as stream ERASURES tells them: replayed at start, then followed; and their watchers.

A watcher is told the present, not each step: one that reads slowly misses steps in between and
never the last one, so nothing is buffered for it.
"""

import asyncio
from collections.abc import AsyncGenerator

from feedback_svc.stream.position import Position
from selm import erasure_events, streams
from selm.bus import Bus
from selm.delivery import CaughtUp, Delivery
from selm.erasures import Erasure, ErasureOrder, Receipt
from selm.errors import SelmError, not_found, unavailable
from selm.log import get_logger

_log = get_logger("feedback_svc.erasure")

_ORDERED_PREFIX = "selm.erasure.requested."


class ErasureBook:
    """The fold of ERASURES."""

    def __init__(self, bus: Bus, timeout_s: float) -> None:
        self._bus = bus
        self._timeout_s = timeout_s
        self._orders: dict[tuple[str, str], ErasureOrder] = {}
        # A receipt may be read before its order: the newest message of a subject keeps its place.
        self._receipts: dict[tuple[str, str], dict[str, Receipt]] = {}
        self._position = Position()
        self._changed = asyncio.Condition()

    @property
    def is_ready(self) -> bool:
        return self._position.is_caught_up.is_set()

    async def follow(self) -> None:
        """Runs until cancelled."""
        spec = streams.ERASURES
        async for item in self._bus.replay(spec.name, spec.subjects):
            if isinstance(item, CaughtUp):
                self._position.is_caught_up.set()
                continue
            try:
                self._take(item)
            except (SelmError, ValueError) as error:
                _log.error("unreadable", subject=item.subject, error=str(error))
            await self._position.move(item.sequence)
            async with self._changed:
                self._changed.notify_all()

    async def catch_up(self, tenant: str) -> None:
        """Wait for whatever was ordered for this tenant by now, through any replica."""
        stream = streams.ERASURES.name
        if not self._bus.is_connected:
            raise unavailable("BUS_UNAVAILABLE", "NATS does not answer", stream=stream)
        if not self.is_ready:
            raise unavailable("STARTING", "erasures are being read", waiting_for="replay")
        subject = f"{_ORDERED_PREFIX}{tenant}.>"
        newest = await self._bus.last(stream, subject)
        if newest and not await self._position.reach(newest.sequence, self._timeout_s):
            raise unavailable("BUS_UNAVAILABLE", "replay lags behind", stream=stream)

    def find(self, tenant: str, name: str) -> Erasure | None:
        order = self._orders.get((tenant, name))
        if order is None:
            return None
        return Erasure(order, dict(self._receipts.get((tenant, name), {})))

    def of_tenant(self, tenant: str) -> list[Erasure]:
        """Newest first."""
        keys = [key for key in self._orders if key[0] == tenant]
        found = [erasure for key in keys if (erasure := self.find(*key)) is not None]
        return sorted(found, key=lambda e: (e.order.time, e.order.name), reverse=True)

    async def watch(self, tenant: str, name: str) -> AsyncGenerator[Erasure, None]:
        """The erasure now, then whenever it has changed, until it is completed."""
        erasure = self.find(tenant, name)
        while erasure is not None:
            yield erasure
            if erasure.is_completed:
                return
            erasure = await self._next(tenant, name, erasure)
        raise not_found(name)

    async def _next(self, tenant: str, name: str, shown: Erasure) -> Erasure | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.find(tenant, name) != shown)
            return self.find(tenant, name)

    def _take(self, delivery: Delivery) -> None:
        tenant = streams.tenant_of(delivery.subject)
        if delivery.subject.startswith(_ORDERED_PREFIX):
            order = erasure_events.order_of(delivery)
            self._orders[tenant, order.name] = order
            return
        name, receipt = erasure_events.receipt_of(delivery)
        receipts = self._receipts.setdefault((tenant, name), {})
        receipts[receipt.service] = receipt
