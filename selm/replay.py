"""Reading a stream from its beginning: history, one CaughtUp, then live; survives the broker.

Uses short-lived consumers that acknowledge nothing; after any loss a new one starts behind the last
sequence that was delivered, so nothing is skipped and nothing comes twice.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import nats.js.errors
from nats.js import api

from selm.bus_errors import LOSSES, PullLostError
from selm.bus_setup import ensure_known
from selm.delivery import CaughtUp, Rewound
from selm.log import get_logger
from selm.nats_connection import NatsConnection
from selm.pull import Pull

_log = get_logger("selm.bus")

_RETRY_S = 0.5
# The server forgets a reader that has not asked for this long; it then simply comes back.
_INACTIVE_S = 60.0
# The client rounds times to microseconds, in two ways.
_SAME_TIME = timedelta(milliseconds=1)


@dataclass(frozen=True)
class ReplayRequest:
    """What to read; `batch` bounds how many messages the broker sends ahead."""

    stream: str
    subjects: tuple[str, ...]
    is_last_per_subject: bool = False
    is_headers_only: bool = False
    # Yields Rewound where the broker came back without what it had stored.
    tells_rewind: bool = False
    # The newest sequence that the reader heard of by other ways: a shorter stream is not its own.
    known: Callable[[], int] = lambda: 0
    batch: int = 256


async def replay(connection: NatsConnection, request: ReplayRequest) -> AsyncGenerator[Any, None]:
    """Yield NATS messages in stream order and one CaughtUp; ends only by cancellation."""
    cursor = _Cursor(request)
    while True:
        await connection.wait_connected()
        try:
            async for item in cursor.read(connection):
                yield item
        except LOSSES as error:
            _log.info("replay_resumes", stream=request.stream, after=cursor.last, error=str(error))
            await asyncio.sleep(_RETRY_S)


class _Cursor:
    """How far one replay has come."""

    def __init__(self, request: ReplayRequest) -> None:
        self._request = request
        self._is_caught_up = False
        self._created: object = None
        # When the broker stored the message at `last`.
        self._last_time: datetime | None = None
        self.last = 0

    async def read(self, connection: NatsConnection) -> AsyncIterator[Any]:
        jetstream = connection.jetstream()
        if await self._rewind_if_stream_is_new(jetstream) and self._request.tells_rewind:
            self._is_caught_up = False
            yield Rewound()
        config = reader_config(self._request, self.last)
        info = await jetstream.add_consumer(self._request.stream, config=config)
        num_pending = info.num_pending
        next_in_consumer = 1
        async with Pull.open(
            connection, self._request.stream, info.name, self._request.batch
        ) as pull:
            while True:
                if num_pending == 0 and not self._is_caught_up:
                    self._is_caught_up = True
                    yield CaughtUp(self.last)
                message = await pull.next()
                if message is None:
                    # An idle broker has nothing left to send, even if messages that it counted as
                    # pending have been replaced or aged out since.
                    num_pending = 0
                    continue
                metadata = message.metadata
                if metadata.sequence.consumer != next_in_consumer:
                    raise PullLostError(f"gap before delivery {metadata.sequence.consumer}")
                next_in_consumer += 1
                num_pending = metadata.num_pending
                self.last, self._last_time = metadata.sequence.stream, metadata.timestamp
                yield message

    async def _rewind_if_stream_is_new(self, jetstream: Any) -> bool:
        """Whether all has to be read again: another stream stands under the name by now."""
        # Asked before the broker is: what is acknowledged meanwhile may be missing in its answer.
        newest = max(self.last, self._request.known())
        info = await self._stream_info(jetstream)
        before, self._created = self._created, info.created
        if before is None:
            return False
        is_as_long = before == info.created and info.state.last_seq >= newest
        if is_as_long and await self._holds_what_was_read(jetstream):
            return False
        # The broker lost its disk: waiting for the old sequence would be silent deafness.
        _log.critical("stream_rewound", stream=self._request.stream, after=self.last)
        self.last, self._last_time = 0, None
        return True

    async def _holds_what_was_read(self, jetstream: Any) -> bool:
        """Whether the last message that was read stands in its place, or was removed since.

        A backup that was written on by others may be as long as what was lost.
        """
        if self._last_time is None:
            return True
        try:
            found = await jetstream.get_msg(self._request.stream, seq=self.last, direct=True)
        except nats.js.errors.NotFoundError:
            return True
        return bool(abs(found.time - self._last_time) < _SAME_TIME)

    async def _stream_info(self, jetstream: Any) -> Any:
        try:
            return await jetstream.stream_info(self._request.stream)
        except nats.js.errors.NotFoundError:
            await ensure_known(jetstream, self._request.stream)
            raise


def reader_config(request: ReplayRequest, after_sequence: int) -> Any:
    """A consumer that acknowledges nothing and starts behind `after_sequence`."""
    config = api.ConsumerConfig(
        ack_policy=api.AckPolicy.NONE,
        filter_subjects=list(request.subjects),
        inactive_threshold=_INACTIVE_S,
        mem_storage=True,
        num_replicas=1,
        headers_only=request.is_headers_only or None,
    )
    if after_sequence > 0:
        config.deliver_policy = api.DeliverPolicy.BY_START_SEQUENCE
        config.opt_start_seq = after_sequence + 1
    elif request.is_last_per_subject:
        config.deliver_policy = api.DeliverPolicy.LAST_PER_SUBJECT
    return config


async def read_stored(
    connection: NatsConnection, request: ReplayRequest, *, last_sequence: int | None = None
) -> list[Any]:
    """What is stored now, up to `last_sequence`, oldest first; fails at once without a bus."""
    jetstream = connection.jetstream()
    info = await jetstream.add_consumer(request.stream, config=reader_config(request, 0))
    messages: list[Any] = []
    num_pending = info.num_pending
    async with Pull.open(connection, request.stream, info.name, request.batch) as pull:
        while num_pending > 0:
            message = await pull.next()
            if message is None:
                break
            if last_sequence is not None and message.metadata.sequence.stream > last_sequence:
                break
            messages.append(message)
            num_pending = message.metadata.num_pending
    await jetstream.delete_consumer(request.stream, info.name)
    return messages
