"""Takes messages out of streams for good; doing it twice is fine. Knows no meaning of a message."""

import asyncio
from collections.abc import Sequence

import nats.js.errors

from selm.bus import Bus
from selm.bus_errors import broker_errors

# "no message found" and its like: it is gone already.
_NOT_FOUND = frozenset({10037, 10057})
_AT_ONCE = 32


class Eraser:
    """The few destructive calls of this service."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def erase(self, stream: str, sequences: Sequence[int]) -> None:
        """Messages that hold what somebody said: the broker overwrites their bytes on its disk.

        A purge would only forget where they are (measured: every byte stays in the block files).
        """
        for start in range(0, len(sequences), _AT_ONCE):
            chunk = sequences[start : start + _AT_ONCE]
            await asyncio.gather(*(self._delete(stream, sequence) for sequence in chunk))

    async def purge(self, stream: str, subject: str) -> None:
        """Everything of a subject whose messages hold no text."""
        with broker_errors():
            await self._bus.connection.jetstream().purge_stream(stream, subject=subject)

    async def _delete(self, stream: str, sequence: int) -> None:
        with broker_errors():
            try:
                await self._bus.connection.jetstream().delete_msg(stream, sequence)
            except nats.js.errors.APIError as error:
                if error.err_code not in _NOT_FOUND:
                    raise
