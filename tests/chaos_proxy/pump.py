"""One direction of one connection: read, let the weather have its way, write.

At most CHUNKS * CHUNK_BYTES bytes wait here; then nothing more is read and the sender is slowed by
TCP itself. Knows nothing of the other direction.
"""

import asyncio
import socket
from dataclasses import dataclass

from tests.chaos_proxy.faults import Direction, Fault
from tests.chaos_proxy.weather import Weather

CHUNK_BYTES = 16 * 1024
CHUNKS = 64
# A limited rate is paid out in steps of about this length.
_STEP_S = 0.05


@dataclass(frozen=True)
class _Chunk:
    # When it may pass; empty `data` is the end of the stream.
    due: float
    data: bytes


class Pump:
    """Moves bytes from one socket to the other until the first ends."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        direction: Direction,
        weather: Weather,
    ) -> None:
        self._source = source
        self._sink = sink
        self.direction = direction
        self._weather = weather
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[_Chunk] = asyncio.Queue(CHUNKS)
        self._num_until_flip = 0
        # How the source was reset, if it was.
        self._broken: OSError | None = None
        # Bytes of this connection vanished: passing later ones on would forge a stream.
        self.has_swallowed = False

    @property
    def _fault(self) -> Fault:
        return self._weather[self.direction]

    async def run(self) -> None:
        """Until the source ended and that was passed on; OSError if it was a reset."""
        reading = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        if self._broken is not None:
            raise self._broken
        self._sink.shutdown(socket.SHUT_WR)

    async def _read(self) -> None:
        due = 0.0
        try:
            while data := await self._loop.sock_recv(self._source, CHUNK_BYTES):
                # Later bytes never overtake earlier ones.
                due = max(due, self._loop.time() + self._delay())
                await self._waiting.put(_Chunk(due, data))
        except OSError as error:
            self._broken = error
        await self._waiting.put(_Chunk(due, b""))

    async def _write(self) -> None:
        while (chunk := await self._waiting.get()).data:
            await self._wait_until_due(chunk)
            if self._fault.is_swallowing:
                self.has_swallowed = True
                continue
            try:
                await self._pay_out(self._spoilt(chunk.data))
            except OSError:
                # The sink is gone. Nobody may hear of that while the way back hides ends.
                if not self._weather[self.direction.opposite].hides_end:
                    raise
                self.has_swallowed = True
        await self._wait_until_due(chunk)
        await self._weather.until(lambda: not self._fault.hides_end)

    async def _wait_until_due(self, chunk: _Chunk) -> None:
        await self._weather.until(lambda: not self._fault.is_holding)
        # Once the latency is healed, nothing has to wait for it any more.
        while self._fault.latency_s and (left := chunk.due - self._loop.time()) > 0:
            await self._weather.pause(left)

    async def _pay_out(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rate = self._fault.bytes_per_s
            size = len(rest) if rate is None else max(1, int(rate * _STEP_S))
            step, rest = rest[:size], rest[size:]
            await self._loop.sock_sendall(self._sink, step)
            if rate is not None:
                await self._weather.pause(len(step) / rate)

    def _delay(self) -> float:
        fault = self._fault
        jitter = self._weather.random.uniform(-fault.jitter_s, fault.jitter_s)
        return max(0.0, fault.latency_s + jitter)

    def _spoilt(self, data: bytes) -> bytes:
        every = self._fault.flips_every
        if not every:
            self._num_until_flip = 0
            return data
        spoilt = bytearray(data)
        at = self._num_until_flip
        while at < len(spoilt):
            spoilt[at] ^= 1 << self._weather.random.randrange(8)
            at += every
        self._num_until_flip = at - len(spoilt)
        return bytes(spoilt)
