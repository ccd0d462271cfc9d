"""The bus: publish, consume, replay and read JetStream; core NATS signals. The one door to NATS.

Every failure of the broker leaves here as SelmError BUS_UNAVAILABLE (repeat with the same id) or
STORAGE_FULL. Opening a bus never waits for the broker: see NatsConnection.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import nats.errors
import nats.js.errors
from google.protobuf.message import Message

from selm import streams
from selm.bus_errors import broker_errors
from selm.bus_setup import ensure_bucket, ensure_stream
from selm.consumer import ConsumerSpec, DurableConsumer, Handler
from selm.delivery import (
    MESSAGE_ID,
    MESSAGE_TYPE,
    CaughtUp,
    Delivery,
    delivery_of,
    delivery_of_stored,
)
from selm.errors import SelmError
from selm.kv import KeyValue
from selm.log import get_logger
from selm.nats_connection import NatsConnection
from selm.replay import ReplayRequest, read_stored, replay
from selm.settings import SharedSettings
from selm.streams import BucketSpec, StreamSpec

__all__ = ["Bus", "CaughtUp", "Delivery", "PublishAck"]

_log = get_logger("selm.bus")

_RETRY_S = 0.5


@dataclass(frozen=True)
class PublishAck:
    """The broker has it on disk. `is_duplicate`: an earlier publish with this id already did."""

    stream: str
    sequence: int
    duplicate: bool


class Bus:
    """One connection shared by everything in a process."""

    def __init__(self, connection: NatsConnection) -> None:
        self.connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: SharedSettings, client_name: str) -> AsyncIterator["Bus"]:
        """Connect in the background for ever; drain at the end of the block."""
        async with NatsConnection.open(settings, client_name) as connection:
            yield cls(connection)

    @property
    def is_connected(self) -> bool:
        return self.connection.is_connected

    async def wait_connected(self) -> None:
        await self.connection.wait_connected()

    async def ready(self) -> None:
        """Wait for the connection, every stream and bucket, however long the broker takes."""
        while True:
            await self.wait_connected()
            try:
                await self.ensure_streams(streams.STREAMS)
                await self.ensure_buckets(streams.BUCKETS)
                return
            except SelmError as error:
                _log.warning("bus_not_ready", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def ensure_streams(self, specs: Sequence[StreamSpec]) -> None:
        """Create what is missing and bring limits up to date; any number of services may do so."""
        with broker_errors():
            for spec in specs:
                await ensure_stream(self.connection.jetstream(), spec)

    async def ensure_buckets(self, specs: Sequence[BucketSpec]) -> None:
        with broker_errors():
            for spec in specs:
                await ensure_bucket(self.connection.jetstream(), spec)

    async def publish(
        self, subject: str, message: Message, *, message_id: str, timeout_s: float = 5.0
    ) -> PublishAck:
        """Store one message; returns only after the broker synced it. Repeats keep `message_id`."""
        headers = {MESSAGE_TYPE: message.DESCRIPTOR.full_name}
        payload = message.SerializeToString()
        return await self.publish_raw(
            subject, payload, message_id=message_id, headers=headers, timeout_s=timeout_s
        )

    async def publish_raw(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        headers: dict[str, str],
        timeout_s: float = 5.0,
    ) -> PublishAck:
        """`publish` for bytes that are no message of ours, such as a dead letter."""
        headers = {**headers, MESSAGE_ID: message_id}
        with broker_errors():
            async with asyncio.timeout(timeout_s):
                ack = await self._publish_until_a_leader_answers(subject, payload, headers)
        return PublishAck(ack.stream, ack.seq, bool(ack.duplicate))

    async def _publish_until_a_leader_answers(
        self, subject: str, payload: bytes, headers: dict[str, str]
    ) -> Any:
        while True:
            # Taken anew each time: raises at once when disconnected instead of buffering.
            jetstream = self.connection.jetstream(timeout_s=3600)
            try:
                return await jetstream.publish(subject, payload, headers=headers)
            except nats.js.errors.NoStreamResponseError:
                # Answered at once while a cluster elects a leader: a tight loop would burn a core.
                await asyncio.sleep(0.1)
                await self._ensure_stream_of(subject)

    async def _ensure_stream_of(self, subject: str) -> None:
        spec = streams.stream_of(subject)
        if spec is not None:
            await ensure_stream(self.connection.jetstream(), spec)

    async def consume(
        self,
        stream: str,
        durable: str,
        handler: Handler,
        *,
        subjects: Sequence[str],
        ack_wait_s: float = 30.0,
        max_deliver: int = 10,
        batch: int = 1,
        is_in_order: bool = False,
    ) -> None:
        """Run `handler` for each message until cancelled; see selm.consumer for the rules."""
        spec = ConsumerSpec(
            stream, durable, tuple(subjects), ack_wait_s, max_deliver, batch, is_in_order
        )

        async def dead_letter(delivery: Delivery, reason: str, text: str) -> None:
            await self._dead_letter(spec, delivery, reason, text)

        await DurableConsumer(self.connection, spec, handler, dead_letter).run()

    async def replay(
        self, stream: str, subjects: Sequence[str], *, last_per_subject: bool = False
    ) -> AsyncIterator[Delivery | CaughtUp]:
        """All history in order, one CaughtUp, then live; survives restarts of the broker."""
        request = ReplayRequest(stream, tuple(subjects), is_last_per_subject=last_per_subject)
        async for item in replay(self.connection, request):
            yield item if isinstance(item, CaughtUp) else delivery_of(item)

    async def read(
        self, stream: str, subjects: Sequence[str], *, last_sequence: int | None = None
    ) -> list[Delivery]:
        """Everything stored now, up to and including `last_sequence`, oldest first."""
        request = ReplayRequest(stream, tuple(subjects))
        with broker_errors():
            messages = await read_stored(self.connection, request, last_sequence=last_sequence)
        return [delivery_of(message) for message in messages]

    async def last(self, stream: str, subject: str) -> Delivery | None:
        """The newest message of one subject, if any."""
        with broker_errors():
            try:
                message = await self.connection.jetstream().get_msg(
                    stream, subject=subject, direct=True
                )
            except nats.js.errors.NotFoundError:
                return None
        return delivery_of_stored(message)

    async def signal(self, subject: str, message: Message) -> None:
        """Tell whoever listens right now; stored nowhere."""
        with broker_errors():
            headers = {MESSAGE_TYPE: message.DESCRIPTOR.full_name}
            await self.connection.client.publish(
                subject, message.SerializeToString(), headers=headers
            )

    async def subscribe_signals(self, subject: str, handler: Handler) -> None:
        """Run `handler` for each signal until cancelled, across reconnects."""
        while True:
            await self.wait_connected()
            client = self.connection.client
            subscription = await client.subscribe(subject)
            try:
                async for message in subscription.messages:
                    await _handle_signal(message, handler)
            except nats.errors.Error as error:
                _log.info("signals_resubscribe", subject=subject, error=str(error))
            finally:
                with suppress(nats.errors.Error):
                    await subscription.unsubscribe()
            await asyncio.sleep(_RETRY_S)

    def kv(self, bucket: str) -> KeyValue:
        """The key-value bucket of that name; one of streams.BUCKETS."""
        return KeyValue(self.connection, bucket)

    async def _dead_letter(
        self, spec: ConsumerSpec, delivery: Delivery, reason: str, text: str
    ) -> None:
        identity = f"{spec.stream}-{spec.durable}-{delivery.sequence}".lower()
        headers = {
            MESSAGE_TYPE: delivery.message_type,
            "Selm-Dead-Stream": spec.stream,
            "Selm-Dead-Consumer": spec.durable,
            "Selm-Dead-Subject": delivery.subject,
            "Selm-Dead-Sequence": str(delivery.sequence),
            "Selm-Dead-Message-Id": delivery.message_id,
            "Selm-Dead-Deliveries": str(delivery.num_delivered),
            "Selm-Dead-Reason": reason,
            # A header is one line.
            "Selm-Dead-Message": " ".join(text.split())[:500],
        }
        subject = streams.dead_letter_created(streams.tenant_of(delivery.subject), identity)
        await self.publish_raw(subject, delivery.payload, message_id=identity, headers=headers)


async def _handle_signal(message: Any, handler: Handler) -> None:
    headers = dict(message.headers or {})
    message_type = headers.get(MESSAGE_TYPE, "")
    delivery = Delivery(message.subject, 0, message_type, message.data, "", headers=headers)
    try:
        await handler(delivery)
    except Exception as error:
        # A signal is sent once; one bad handler run must not end the subscription.
        _log.error("signal_handler_failed", subject=message.subject, exc_info=error)
