"""One connection through the proxy: two sockets and a pump for each direction."""

import asyncio
import socket
import struct

from tests.chaos_proxy.faults import Direction
from tests.chaos_proxy.pump import Pump
from tests.chaos_proxy.weather import Weather

# On, for 0 seconds: close() sends RST instead of FIN and forgets what was not sent.
_LINGER_NOT = struct.pack("ii", 1, 0)


class Link:
    """Lives until both directions have ended, or either end was reset."""

    def __init__(self, client: socket.socket, target: tuple[str, int], weather: Weather) -> None:
        self._client = client
        self._address = target
        self._weather = weather
        self._target = socket.socket()
        self._target.setblocking(False)
        self._pumps: list[Pump] = []
        self._work: asyncio.Task[None] | None = None
        self._is_reset = False

    async def run(self) -> None:
        """Forward until the end of the connection; closes both sockets."""
        self._work = asyncio.create_task(self._connect_and_pump())
        if self._is_reset:
            self._work.cancel()
        try:
            await asyncio.wait([self._work])
        finally:
            self._work.cancel()
        is_reset = self._work.cancelled() or self._work.exception() is not None
        for end in (self._client, self._target):
            _close(end, is_reset)

    def reset(self) -> None:
        """RST to both ends, now."""
        self._is_reset = True
        if self._work is not None:
            self._work.cancel()

    def reset_if_forged(self) -> None:
        """End it if the weather is better but bytes of it are missing."""
        is_better = not (self._weather.is_hiding_ends or self._weather.is_hiding_the_target)
        if is_better and any(pump.has_swallowed for pump in self._pumps):
            self.reset()

    async def _connect_and_pump(self) -> None:
        # A connection begun in a partition gets no answer before its end.
        await self._weather.until(lambda: not self._weather.is_hiding_the_target)
        await asyncio.get_running_loop().sock_connect(self._target, self._address)
        for end in (self._client, self._target):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pumps = [
            Pump(self._client, self._target, Direction.UP, self._weather),
            Pump(self._target, self._client, Direction.DOWN, self._weather),
        ]
        running = [asyncio.create_task(pump.run()) for pump in self._pumps]
        try:
            await _all_or_first_error(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


async def _all_or_first_error(tasks: list[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


def _close(end: socket.socket, is_reset: bool) -> None:
    if is_reset:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    end.close()
