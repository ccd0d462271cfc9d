"""A TCP proxy whose path can be made bad at run time, for tests of what a bad network does.

    async with ChaosProxy.open(("127.0.0.1", 4222)) as proxy:
        ... connect to proxy.port ...
        proxy.change(up=Fault(latency_s=0.5))
        proxy.heal()

Knows bytes and connections, no protocol. A connection that lost bytes to a blackhole is reset when
the blackhole ends, as by a firewall that forgot it: a stream with a hole is no stream. While the
target is away a new connection is accepted and then reset, where no proxy would have it refused.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos_proxy.faults import BLACKHOLE, HELD, SOUND, Direction, Fault
from tests.chaos_proxy.link import Link
from tests.chaos_proxy.weather import Weather

_BACKLOG = 128


class ChaosProxy:
    """Listens on a loopback port of its own; only its event loop may call it."""

    def __init__(self, target: tuple[str, int], seed: int = 0) -> None:
        self._target = target
        self._weather = Weather(seed)
        self._links: set[Link] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._listener: socket.socket | None = None
        self.port = 0
        self.num_accepted = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, target: tuple[str, int], seed: int = 0) -> AsyncIterator["ChaosProxy"]:
        """Forward until the end of the block, which resets what is still connected."""
        proxy = cls(target, seed)
        proxy._listen()
        try:
            yield proxy
        finally:
            await proxy._close()

    @property
    def num_connections(self) -> int:
        return len(self._links)

    def change(self, up: Fault = SOUND, down: Fault = SOUND) -> None:
        """The state of both directions from now on, for present and new connections."""
        self._weather.change(up, down)
        for link in list(self._links):
            link.reset_if_forged()

    def heal(self) -> None:
        """All is well again: sound both ways, and new connections are taken."""
        self.change()
        self._listen()

    def slow(
        self, latency_s: float = 0.0, jitter_s: float = 0.0, bytes_per_s: float | None = None
    ) -> None:
        """Late and little, both ways."""
        fault = Fault(latency_s=latency_s, jitter_s=jitter_s, bytes_per_s=bytes_per_s)
        self.change(fault, fault)

    def blackhole(self) -> None:
        """Connections stay, bytes vanish both ways, new connections get no answer."""
        self.change(BLACKHOLE, BLACKHOLE)

    def hold(self) -> None:
        """A partition that ends before TCP gives up: all arrives, once it is healed."""
        self.change(HELD, HELD)

    def half_open(self, dead: Direction) -> None:
        """One direction is silently dead, the other works; no end is told through the dead one."""
        if dead is Direction.UP:
            self.change(up=BLACKHOLE)
        else:
            self.change(down=BLACKHOLE)

    def hide_ends(self) -> None:
        """Whoever closes is not missed: the other side keeps a connection to nobody."""
        fault = Fault(hides_end=True)
        self.change(fault, fault)

    def reset(self) -> int:
        """RST both ends of every connection now; how many there were. New ones are welcome."""
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    def refuse(self) -> None:
        """New connections are refused; those there are stay."""
        if self._accepting is not None:
            self._accepting.cancel()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        self._listener = self._accepting = None

    def _listen(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener))

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(listener)
            self.num_accepted += 1
            link = Link(client, self._target, self._weather)
            self._links.add(link)
            task = asyncio.create_task(self._run(link))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, link: Link) -> None:
        try:
            await link.run()
        finally:
            self._links.discard(link)

    async def _close(self) -> None:
        self.refuse()
        self.reset()
        if self._running:
            await asyncio.wait(self._running, timeout=5)
