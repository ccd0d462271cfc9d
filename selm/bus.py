"""The bus: publish, consume, replay and read JetStream; core NATS signals. The one door to NATS.

Every failure of the broker leaves here as SelmError BUS_UNAVAILABLE (repeat with the same id) or
STORAGE_FULL. Opening a bus never waits for the broker: see NatsConnection.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeVar, cast

import nats.errors
import nats.js.errors
from google.protobuf.message import Message

from selm import streams
from selm.bus_batch import publish_atomically
from selm.bus_errors import broker_errors
from selm.bus_setup import ensure_bucket, ensure_stream
from selm.consumer import ConsumerSpec, Handler
from selm.delivery import (
    MESSAGE_TYPE,
    CaughtUp,
    Delivery,
    Rewound,
    delivery_of,
    delivery_of_direct,
    delivery_of_stored,
)
from selm.durability import warn_unless_synced
from selm.errors import SelmError, not_found
from selm.kv import KeyValue
from selm.log import get_logger
from selm.nats_connection import NatsConnection
from selm.publication import Publication, PublishAck
from selm.pull import PENDING_LOOK_S
from selm.redelivery import AGAIN, consume_both
from selm.replay import ReplayRequest, read_stored, replay
from selm.settings import SharedSettings
from selm.streams import BucketSpec, StreamSpec

__all__ = ["Bus", "CaughtUp", "Delivery", "Publication", "PublishAck", "Rewound"]

T = TypeVar("T")

_log = get_logger("selm.bus")

_RETRY_S = 0.5


class Bus:
    """One connection shared by everything in a process."""

    def __init__(self, connection: NatsConnection, monitor_url: str | None = None) -> None:
        self.connection = connection
        self._monitor_url = monitor_url

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: SharedSettings, client_name: str) -> AsyncIterator["Bus"]:
        """Connect in the background for ever; drain at the end of the block."""
        async with NatsConnection.open(settings, client_name) as connection:
            yield cls(connection, settings.nats_monitor_url)

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
                break
            except SelmError as error:
                _log.warning("bus_not_ready", error=str(error))
                await asyncio.sleep(_RETRY_S)
        await warn_unless_synced(self._monitor_url)

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
        publication = Publication.of(subject, message, message_id)
        return await self.publish_one(publication, timeout_s=timeout_s)

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
        publication = Publication(subject, payload, message_id, headers)
        return await self.publish_one(publication, timeout_s=timeout_s)

    async def publish_one(self, publication: Publication, *, timeout_s: float = 5.0) -> PublishAck:
        """`publish` for a publication made before."""
        subject, payload = publication.subject, publication.payload

        async def attempt() -> PublishAck:
            jetstream = self.connection.jetstream(timeout_s=3600)
            ack = await jetstream.publish(subject, payload, headers=publication.all_headers)
            return PublishAck(ack.stream, ack.seq, bool(ack.duplicate))

        return await self._until_a_leader_answers(attempt, subject, timeout_s)

    async def publish_batch(
        self, publications: Sequence[Publication], *, timeout_s: float = 5.0
    ) -> list[PublishAck]:
        """Store all or none, in this order; one stream only, which must have `has_batches`.

        Raises BatchRefusedError, and stores nothing, if they cannot be stored together: a message
        id is known already, a member is too large, or the stream takes no batches.
        """

        if not publications:
            return []

        async def attempt() -> list[PublishAck]:
            return await publish_atomically(self.connection.client, publications)

        return await self._until_a_leader_answers(attempt, publications[0].subject, timeout_s)

    async def _until_a_leader_answers(
        self, attempt: Callable[[], Awaitable[T]], subject: str, timeout_s: float
    ) -> T:
        with broker_errors():
            async with asyncio.timeout(timeout_s):
                while True:
                    # Each attempt asks for the connection anew: it raises at once when disconnected
                    # instead of buffering.
                    try:
                        return await attempt()
                    except (nats.js.errors.NoStreamResponseError, nats.errors.NoRespondersError):
                        # Answered at once while a cluster elects a leader: a tight loop would burn
                        # a core.
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
        pending_look_s: float = PENDING_LOOK_S,
    ) -> None:
        """Run `handler` for each message until cancelled; see selm.consumer for the rules."""
        spec = ConsumerSpec(
            stream,
            durable,
            tuple(subjects),
            ack_wait_s,
            max_deliver,
            batch,
            is_in_order,
            pending_look_s,
        )
        await consume_both(self.connection, spec, handler, self._dead_letter)

    async def replay(
        self, stream: str, subjects: Sequence[str], *, last_per_subject: bool = False
    ) -> AsyncIterator[Delivery | CaughtUp]:
        """All history in order, one CaughtUp, then live; survives restarts of the broker."""
        request = ReplayRequest(stream, tuple(subjects), is_last_per_subject=last_per_subject)
        async for item in replay(self.connection, request):
            yield item if isinstance(item, CaughtUp) else delivery_of(item)

    async def follow(
        self, stream: str, subjects: Sequence[str], *, known: Callable[[], int] = lambda: 0
    ) -> AsyncIterator[Delivery | CaughtUp | Rewound]:
        """As `replay`; and Rewound, then all anew, when the broker has lost what it had stored.

        `known` is the newest sequence that was acknowledged to the caller, read or not.
        """
        request = ReplayRequest(stream, tuple(subjects), tells_rewind=True, known=known)
        async for item in replay(self.connection, request):
            yield item if isinstance(item, CaughtUp | Rewound) else delivery_of(item)

    async def stored(self, stream: str, subjects: Sequence[str]) -> AsyncGenerator[Delivery, None]:
        """Everything stored now, oldest first, one by one: it may be more than memory holds."""
        replay = cast(AsyncGenerator[Delivery | CaughtUp, None], self.replay(stream, subjects))
        async with aclosing(replay) as items:
            async for item in items:
                if isinstance(item, CaughtUp):
                    return
                yield item

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
            # The request of get_msg at two thirds of its cost: each feedback event waits for one.
            request = f"$JS.API.DIRECT.GET.{stream}.{subject}"
            answer = await self.connection.client.request(request, timeout=5)
        return delivery_of_direct(answer)

    async def get(self, stream: str, sequence: int) -> Delivery:
        """One stored message by its place; RESOURCE_NOT_FOUND if it is not there any more."""
        with broker_errors():
            try:
                message = await self.connection.jetstream().get_msg(
                    stream, seq=sequence, direct=True
                )
            except nats.js.errors.NotFoundError:
                raise not_found(f"{stream}/{sequence}") from None
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
        if AGAIN in delivery.headers:
            identity += f"-again{delivery.headers[AGAIN]}"
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
