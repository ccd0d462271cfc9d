"""Stream ERASURES: orders, receipts, and the consumer by which a service does its part of each.

A service's part is called again at whatever the others say, and after every failure and crash,
until it has confirmed; so it looks at the erasure as it is now and does what is next, and doing it
again must change nothing. Shared by memory_svc, feedback_svc and trainer_svc.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import nats.errors

from selm import erasure_events, names, streams
from selm.bus import Bus
from selm.delivery import MESSAGE_TYPE, Delivery
from selm.erasures import SERVICES, ErasedEvent, Erasure, ErasureOrder, Receipt, ReceiptState
from selm.errors import SelmError
from selm.log import get_logger
from selm.tasks import end_tasks

_log = get_logger("selm.erasure")

Act = Callable[[Erasure], Awaitable[None]]

# Short, so that what a killed replica had in hand is soon taken up; who works on it holds it.
_ACK_WAIT_S = 6.0
# Never given up: a dead letter would leave an erasure running for ever.
_ENDLESS = 1_000_000_000
_STREAM = streams.ERASURES.name


@dataclass(frozen=True)
class Purged:
    """What an erasure has taken out of FEEDBACK. Whatever stood there before `cutoff` goes, what
    came later is new; 0 while the erasure has not drawn that line."""

    cutoff: int
    events: tuple[ErasedEvent, ...]


class ErasureStream:
    """Reads and writes what is said of erasures."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def order(self, order: ErasureOrder) -> None:
        """The erasure is on disk when this returns; ordering it again changes nothing."""
        erasure_id = erasure_events.erasure_id_of(order.name)
        await self._bus.publish(
            streams.erasure_requested(order.tenant, erasure_id),
            erasure_events.requested(order),
            message_id=f"{order.tenant}.{erasure_id}",
        )

    async def erasure(self, tenant: str, name: str) -> Erasure | None:
        """The erasure as the stream tells it now."""
        erasure_id = erasure_events.erasure_id_of(name)
        found = await self._bus.last(_STREAM, streams.erasure_requested(tenant, erasure_id))
        if found is None:
            return None
        receipts = {}
        for service in SERVICES:
            said = await self._last_receipt(tenant, erasure_id, service)
            if said is not None:
                receipts[service] = erasure_events.receipt_of(said)[1]
        return Erasure(erasure_events.order_of(found), receipts)

    async def tell(self, order: ErasureOrder, receipt: Receipt) -> None:
        """Publish a service's receipt, unless that service has confirmed already."""
        erasure_id = erasure_events.erasure_id_of(order.name)
        before = await self._last_receipt(order.tenant, erasure_id, receipt.service)
        if before is not None:
            _, said = erasure_events.receipt_of(before)
            if said.state is ReceiptState.CONFIRMED or _is_same(said, receipt):
                return
        message = erasure_events.confirmed(order.name, receipt, datetime.now(UTC))
        headers = {
            MESSAGE_TYPE: message.DESCRIPTOR.full_name,
            # Two replicas at one erasure: the slower one must not take a confirmation back.
            "Nats-Expected-Last-Subject-Sequence": str(before.sequence if before else 0),
        }
        await self._bus.publish_raw(
            streams.erasure_confirmed(order.tenant, erasure_id, receipt.service),
            message.SerializeToString(),
            message_id=f"{erasure_id}.{receipt.service}.{names.new_id()}",
            headers=headers,
        )

    async def purged(self, order: ErasureOrder) -> Purged:
        """What the erasure has purged from FEEDBACK so far."""
        cutoff, events = 0, []
        subject = streams.feedback_erased(order.tenant)
        for delivery in await self._bus.read(streams.FEEDBACK.name, [subject]):
            erasure, erased = erasure_events.erased_of(delivery)
            if erasure == order.name:
                cutoff = cutoff or delivery.sequence
                events += erased
        return Purged(cutoff, tuple(events))

    async def _last_receipt(self, tenant: str, erasure_id: str, service: str) -> Delivery | None:
        subject = streams.erasure_confirmed(tenant, erasure_id, service)
        return await self._bus.last(_STREAM, subject)


class ErasureConsumer:
    """Does one service's part of every erasure."""

    def __init__(self, bus: Bus, service: str, act: Act) -> None:
        self._bus = bus
        self._service = service
        self._act = act
        self._stream = ErasureStream(bus)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._bus.consume(
            _STREAM,
            f"{self._service.removesuffix('_svc')}_forget",
            self._handle,
            subjects=streams.ERASURES.subjects,
            ack_wait_s=_ACK_WAIT_S,
            max_deliver=_ENDLESS,
        )

    async def _handle(self, delivery: Delivery) -> None:
        # selm.erasure.{requested|confirmed}.{tenant}.{erasure}[.{service}]
        tokens = delivery.subject.split(".")
        if tokens[-1] == self._service:
            return
        tenant, name = streams.tenant_of(delivery.subject), names.erasure_name(tokens[4])
        erasure = await self._stream.erasure(tenant, name)
        if erasure is None or erasure.is_confirmed_by(self._service):
            return
        try:
            async with _held(delivery):
                await self._act(erasure)
        except Exception as error:
            await self._tell_failure(erasure, error)
            raise

    async def _tell_failure(self, erasure: Erasure, error: Exception) -> None:
        if not isinstance(error, SelmError):
            error = SelmError("INTERNAL", f"{self._service} failed: {type(error).__name__}")
        with suppress(SelmError):
            now = await self._stream.erasure(erasure.order.tenant, erasure.order.name) or erasure
            trouble = erasure_events.trouble_of(error, datetime.now(UTC))
            failed = replace(now.receipt(self._service), state=ReceiptState.FAILED, trouble=trouble)
            await self._stream.tell(erasure.order, failed)
        _log.warning(
            "erasure_waits",
            erasure=erasure.order.name,
            service=self._service,
            error=str(error),
        )


def _is_same(said: Receipt, receipt: Receipt) -> bool:
    """Nothing that a reader could tell apart, but for the time."""
    if said.trouble is not None and receipt.trouble is not None:
        receipt = replace(receipt, trouble=replace(receipt.trouble, time=said.trouble.time))
    return replace(receipt, update_time=said.update_time) == said


@asynccontextmanager
async def _held(delivery: Delivery) -> AsyncIterator[None]:
    """The broker keeps the message ours while the block runs, however long that is."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_ACK_WAIT_S / 3)
            with suppress(nats.errors.Error):
                await delivery.in_progress()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        await end_tasks([beating])
