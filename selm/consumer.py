"""A durable consumer: every message is handled at least once or dead-lettered, never dropped.

handler returns                        acknowledged
handler raises "unavailable"           held and tried again here: an outage spends no delivery
handler raises anything else           given back with back-off; dead letter after `max_deliver`
process dies                           delivered again after `ack_wait_s`; counted as a delivery
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import nats.errors
import nats.js.errors
from nats.js import api

from selm.bus_errors import LOSSES, PullLostError
from selm.bus_setup import ensure_known
from selm.delivery import Delivery, delivery_of
from selm.errors import SelmError
from selm.log import get_logger
from selm.nats_connection import NatsConnection
from selm.pull import PENDING_LOOK_S, Pull
from selm.tasks import honour_cancellation

_log = get_logger("selm.bus")

Handler = Callable[[Delivery], Awaitable[None]]
DeadLetter = Callable[[Delivery, str, str], Awaitable[None]]

_RETRY_S = 0.5
_MAX_BACK_OFF_S = 30.0


@dataclass(frozen=True)
class ConsumerSpec:
    """One durable consumer. `is_in_order` lets no later message pass one that is being retried."""

    stream: str
    durable: str
    subjects: tuple[str, ...]
    ack_wait_s: float = 30.0
    max_deliver: int = 10
    batch: int = 1
    is_in_order: bool = False
    # Messages that wait for two such spans without a delivery make it bind again.
    pending_look_s: float = PENDING_LOOK_S


class DurableConsumer:
    """Runs one handler over one durable consumer until cancelled."""

    def __init__(
        self,
        connection: NatsConnection,
        spec: ConsumerSpec,
        handler: Handler,
        dead_letter: DeadLetter,
    ) -> None:
        self._connection = connection
        self._spec = spec
        self._handler = handler
        self._dead_letter = dead_letter

    async def run(self) -> None:
        """Bind, deliver, and bind again after every loss of connection, consumer or request."""
        while True:
            await self._connection.wait_connected()
            try:
                await self._bind()
                await self._deliver()
            except LOSSES as error:
                _log.info("consumer_rebinds", durable=self._spec.durable, error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _bind(self) -> None:
        jetstream = self._connection.jetstream()
        try:
            # Creates the consumer, or updates what may change of an existing one.
            await jetstream.add_consumer(self._spec.stream, config=self._config())
        except nats.js.errors.NotFoundError:
            await ensure_known(jetstream, self._spec.stream)
            raise

    def _config(self) -> Any:
        return api.ConsumerConfig(
            name=self._spec.durable,
            durable_name=self._spec.durable,
            filter_subjects=list(self._spec.subjects),
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=self._spec.ack_wait_s,
            # NOTE: the limit is kept here: at its own limit the server leaves the message in a work
            # queue for ever. `backoff` is unset because it overrides ack_wait.
            max_deliver=-1,
            max_ack_pending=1 if self._spec.is_in_order else 1000,
        )

    async def _deliver(self) -> None:
        async with Pull.open(
            self._connection,
            self._spec.stream,
            self._spec.durable,
            self._spec.batch,
            pending_look_s=self._spec.pending_look_s,
        ) as pull:
            while True:
                message = await pull.next()
                if message is not None:
                    await self._handle(message)
                    honour_cancellation()

    async def _handle(self, message: Any) -> None:
        delivery = delivery_of(message)
        if delivery.num_delivered > self._spec.max_deliver:
            # Its handler never lived to report: the process died or hung at each delivery.
            await self._give_up(delivery, "INTERNAL", "no handler survived this message")
            return
        try:
            await self._handle_through_outages(delivery)
        except asyncio.CancelledError:
            # Stopping: the next replica gets it at once instead of after ack_wait. Without a broker
            # it waits; another exception here would take the place of the cancellation.
            with suppress(nats.errors.Error):
                await message.nak()
            raise
        except PullLostError:
            # The connection went away, not the message: the broker delivers it again.
            raise
        except Exception as error:
            await self._fail(delivery, error)
        else:
            await message.ack()

    async def _handle_through_outages(self, delivery: Delivery) -> None:
        num_attempts = 0
        while True:
            try:
                await self._handler(delivery)
                return
            except SelmError as error:
                if error.retry_after_s is None:
                    raise
                num_attempts += 1
                _log.warning(
                    "handler_waits",
                    durable=self._spec.durable,
                    sequence=delivery.sequence,
                    error=str(error),
                )
                await self._hold(delivery, back_off_s(num_attempts))

    async def _hold(self, delivery: Delivery, seconds: float) -> None:
        """Keep the message ours while waiting; the broker must hear of it within ack_wait."""
        step_s = self._spec.ack_wait_s / 3
        while seconds > 0:
            if not self._connection.is_connected:
                raise PullLostError("disconnected while holding a message")
            try:
                await delivery.in_progress()
            except nats.errors.Error as error:
                raise PullLostError(f"cannot hold a message: {error}") from error
            await asyncio.sleep(min(step_s, seconds))
            seconds -= step_s

    async def _fail(self, delivery: Delivery, error: Exception) -> None:
        reason = error.reason if isinstance(error, SelmError) else "INTERNAL"
        _log.error(
            "handler_failed",
            durable=self._spec.durable,
            subject=delivery.subject,
            sequence=delivery.sequence,
            num_delivered=delivery.num_delivered,
            reason=reason,
            exc_info=error,
        )
        if delivery.num_delivered >= self._spec.max_deliver:
            await self._give_up(delivery, reason, str(error))
        else:
            await delivery.message.nak(delay=back_off_s(delivery.num_delivered))

    async def _give_up(self, delivery: Delivery, reason: str, message: str) -> None:
        try:
            await self._dead_letter(delivery, reason, message)
        except SelmError as error:
            _log.error("dead_letter_not_stored", sequence=delivery.sequence, error=str(error))
            await delivery.message.nak(delay=_MAX_BACK_OFF_S)
            return
        # Only after the copy is stored: term() takes it out of a work queue.
        await delivery.message.term()


def back_off_s(num_attempts: int) -> float:
    """0.5 s, doubled with each attempt, at most 30 s."""
    return float(min(_MAX_BACK_OFF_S, 0.5 * 2 ** min(num_attempts - 1, 16)))
