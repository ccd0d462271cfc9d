"""Messages of one JetStream pull consumer, with the stalls and losses that a client must notice.

no heartbeat                               the broker forgot the request
a new connection                           so did the broker behind it
heartbeats, messages pending, no delivery  the consumer itself is stuck; counted as the first is
Owns one inbox and one outstanding request. Knows nothing of acknowledgement policy or of replay:
whoever uses it re-creates it, and its consumer if need be, when PullLostError is raised.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import nats.errors

from selm.bus_errors import PullLostError
from selm.log import get_logger
from selm.metrics import CONSUMER_STALLED
from selm.nats_connection import NatsConnection
from selm.tasks import honour_cancellation

_log = get_logger("selm.bus")

_HEARTBEAT_S = 1.0
# Missing this long, the request is gone: the broker moved the leader or forgot us.
_STALL_S = 3.0
# How often to ask whether messages wait while none comes; twice in a row is a stall.
PENDING_LOOK_S = 5.0
# How soon a reconnection is noticed, which also ends the request.
_LOOK_S = 0.25
_EXPIRES_S = 30.0
# Messages taken in a row before others on the loop have their turn.
_TURN = 16
_NANOSECONDS = 1_000_000_000

_HEARTBEAT_STATUS = "100"
# The request ended without being full: ask again. 409 is that too, unless the consumer is gone.
_REQUEST_ENDED = frozenset({"404", "408"})


class Pull:
    """One request at a time for up to `batch` messages; `next()` returns them one by one."""

    def __init__(
        self,
        connection: NatsConnection,
        stream: str,
        consumer: str,
        arrived: "asyncio.Queue[Any]",
        inbox: str,
        batch: int,
        pending_look_s: float,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._consumer = consumer
        self._epoch = connection.epoch
        self._client = connection.client
        self._arrived = arrived
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = inbox
        self._batch = batch
        self._num_outstanding = 0
        self._num_taken = 0
        self._pending_look_s = pending_look_s
        self._last_look = monotonic()
        # Where the consumer stood at the last look, if messages waited then.
        self._stuck_at: int | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        connection: NatsConnection,
        stream: str,
        consumer: str,
        batch: int,
        *,
        pending_look_s: float = PENDING_LOOK_S,
    ) -> AsyncIterator["Pull"]:
        """Bind an inbox to an existing consumer; the inbox is given up at the end of the block."""
        inbox = connection.client.new_inbox()
        arrived: asyncio.Queue[Any] = asyncio.Queue()

        async def take(message: Any) -> None:
            arrived.put_nowait(message)

        # The client's own next_msg makes a task for each message, which costs as much as the rest.
        subscription = await connection.client.subscribe(inbox, cb=take)
        try:
            yield cls(connection, stream, consumer, arrived, inbox, batch, pending_look_s)
        finally:
            # NOTE: before any drain of the connection, or the drain waits for its full timeout. An
            # exception of a closed client must not take the place of a cancellation.
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def next(self) -> Any:
        """The next message, or None after an idle second; PullLostError when waiting is vain."""
        while True:
            if self._num_outstanding == 0:
                await self._request()
            message = await self._receive()
            status = (message.headers or {}).get("Status") if not message.data else None
            if status is None:
                self._num_outstanding -= 1
                self._last_look, self._stuck_at = monotonic(), None
                return message
            if status == _HEARTBEAT_STATUS:
                await self._look_for_stall()
                return None
            self._take_status(status, (message.headers or {}).get("Description", ""))

    async def _request(self) -> None:
        request = {
            "batch": self._batch,
            "expires": int(_EXPIRES_S * _NANOSECONDS),
            "idle_heartbeat": int(_HEARTBEAT_S * _NANOSECONDS),
        }
        await self._client.publish(self._subject, json.dumps(request).encode(), self._inbox)
        self._num_outstanding = self._batch

    async def _receive(self) -> Any:
        for _ in range(round(_STALL_S / _LOOK_S)):
            message = await self._next_arrived()
            honour_cancellation()
            if message is not None:
                return message
            if self._connection.epoch != self._epoch:
                raise PullLostError("connected anew: the broker no longer knows the request")
            if self._client.is_closed:
                raise PullLostError("the connection was closed")
        if not self._connection.is_connected:
            raise PullLostError("disconnected")
        raise self._stalled(f"no heartbeat for {_STALL_S} s")

    async def _next_arrived(self) -> Any:
        """What has arrived, or None after a while without anything."""
        if not self._arrived.empty():
            self._num_taken += 1
            if self._num_taken % _TURN == 0:
                # A long history must not hold up everybody else on this loop.
                await asyncio.sleep(0)
            return self._arrived.get_nowait()
        try:
            async with asyncio.timeout(_LOOK_S):
                return await self._arrived.get()
        except TimeoutError:
            return None

    async def _look_for_stall(self) -> None:
        if monotonic() - self._last_look < self._pending_look_s:
            return
        info = await self._connection.jetstream().consumer_info(self._stream, self._consumer)
        self._last_look = monotonic()
        stands_at = int(info.delivered.consumer_seq) if _could_deliver(info) else None
        if stands_at is not None and stands_at == self._stuck_at:
            raise self._stalled(f"{info.num_pending} messages wait and none is delivered")
        self._stuck_at = stands_at

    def _stalled(self, why: str) -> PullLostError:
        CONSUMER_STALLED.labels(stream=self._stream).inc()
        _log.warning("consumer_stalled", stream=self._stream, consumer=self._consumer, why=why)
        return PullLostError(why)

    def _take_status(self, status: str, description: str) -> None:
        if status in _REQUEST_ENDED:
            self._num_outstanding = 0
            return
        # 503: the consumer does not exist. 409: it was deleted, or its leader changed.
        raise PullLostError(f"{status} {description}")


def _could_deliver(info: Any) -> bool:
    """Messages wait, and no unacknowledged one keeps them back."""
    limit = info.config.max_ack_pending or 0
    is_held_back = 0 < limit <= (info.num_ack_pending or 0)
    return bool(info.num_pending) and not is_held_back
