"""Messages of one JetStream pull consumer, with the stalls and losses that a client must notice.

Owns one inbox and one outstanding request. Knows nothing of acknowledgement policy or of replay:
whoever uses it re-creates it, and its consumer if need be, when PullLostError is raised.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import nats.errors

from selm.bus_errors import PullLostError
from selm.nats_connection import NatsConnection
from selm.tasks import honour_cancellation

_HEARTBEAT_S = 1.0
# Missing this long, the request is gone: the broker moved the leader or forgot us.
_STALL_S = 3.0
# How soon a reconnection is noticed, which also ends the request.
_LOOK_S = 0.25
_EXPIRES_S = 30.0
_NANOSECONDS = 1_000_000_000

_HEARTBEAT_STATUS = "100"
# The request ended without being full: ask again. 409 is that too, unless the consumer is gone.
_REQUEST_ENDED = frozenset({"404", "408"})


class Pull:
    """One request at a time for up to `batch` messages; `next()` returns them one by one."""

    def __init__(
        self, connection: NatsConnection, subscription: Any, subject: str, inbox: str, batch: int
    ) -> None:
        self._connection = connection
        self._epoch = connection.epoch
        self._client = connection.client
        self._subscription = subscription
        self._subject = subject
        self._inbox = inbox
        self._batch = batch
        self._num_outstanding = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: NatsConnection, stream: str, consumer: str, batch: int
    ) -> AsyncIterator["Pull"]:
        """Bind an inbox to an existing consumer; the inbox is given up at the end of the block."""
        inbox = connection.client.new_inbox()
        subscription = await connection.client.subscribe(inbox)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        try:
            yield cls(connection, subscription, subject, inbox, batch)
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
                return message
            if status == _HEARTBEAT_STATUS:
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
            try:
                message = await self._subscription.next_msg(timeout=_LOOK_S)
            except (TimeoutError, nats.errors.TimeoutError):
                message = None
            except nats.errors.Error as error:
                raise PullLostError(f"{type(error).__name__}: {error}") from error
            honour_cancellation()
            if message is not None:
                return message
            if self._connection.epoch != self._epoch:
                raise PullLostError("connected anew: the broker no longer knows the request")
        raise PullLostError(f"no heartbeat for {_STALL_S} s")

    def _take_status(self, status: str, description: str) -> None:
        if status in _REQUEST_ENDED:
            self._num_outstanding = 0
            return
        # 503: the consumer does not exist. 409: it was deleted, or its leader changed.
        raise PullLostError(f"{status} {description}")
