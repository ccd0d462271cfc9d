"""The chaos proxy does to a real connection what it says, and no more."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from selm.testing import eventually
from tests.chaos_proxy.faults import Direction, Fault
from tests.chaos_proxy.proxy import ChaosProxy
from tests.chaos_proxy.pump import CHUNK_BYTES, CHUNKS
from tests.chaos_proxy.thread import ProxyThread

_SOON_S = 0.3
_MIB = 1024 * 1024


class Echo:
    """A server that says again what it hears; `num_heard` counts bytes."""

    def __init__(self) -> None:
        self.num_heard = 0
        self.ends: list[str] = []
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while data := await reader.read(65536):
                self.num_heard += len(data)
                writer.write(data)
                await writer.drain()
            self.ends.append("FIN")
        except ConnectionError:
            self.ends.append("RST")
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()
    for writer in echo.writers:
        writer.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[ChaosProxy]:
    async with ChaosProxy.open(("127.0.0.1", echo.port), seed=7) as proxy:
        yield proxy


class Talker:
    """A client of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, proxy: ChaosProxy) -> "Talker":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, data: bytes, timeout_s: float = 5.0) -> bytes:
        self.writer.write(data)
        async with asyncio.timeout(timeout_s):
            return await self.reader.readexactly(len(data))

    async def is_unanswered(self, data: bytes = b"hello") -> bool:
        try:
            await self.ask(data, _SOON_S)
        except TimeoutError:
            return True
        return False

    async def end(self) -> bytes:
        """What still comes before the end; ConnectionError if that is a reset."""
        async with asyncio.timeout(5):
            return await self.reader.read()


async def test_a_sound_path_changes_nothing(proxy, echo):
    """A megabyte comes back as it was; the end of one side is told to the other."""
    talker = await Talker.to(proxy)
    payload = bytes(range(256)) * 4096
    assert await talker.ask(payload) == payload
    assert proxy.num_connections == 1
    talker.writer.write_eof()
    assert await talker.end() == b""
    assert echo.ends == ["FIN"]
    await _until(lambda: proxy.num_connections == 0)


async def test_latency_delays_and_does_not_throttle(proxy):
    """Ten messages at once take one latency, not ten; healing frees what is under way."""
    talker = await Talker.to(proxy)
    proxy.slow(latency_s=0.2, jitter_s=0.05)
    began = time.monotonic()
    assert await talker.ask(b"x" * 10 * CHUNK_BYTES) == b"x" * 10 * CHUNK_BYTES
    took = time.monotonic() - began
    assert 0.3 <= took < 1.0
    proxy.slow(latency_s=30)
    asking = asyncio.create_task(talker.ask(b"late"))
    await asyncio.sleep(0.1)
    assert not asking.done()
    proxy.heal()
    assert await asyncio.wait_for(asking, 1) == b"late"


async def test_latency_of_one_direction_leaves_the_other(proxy, echo):
    """The target hears at once, its answer comes late."""
    talker = await Talker.to(proxy)
    proxy.change(down=Fault(latency_s=0.5))
    assert await talker.is_unanswered()
    assert echo.num_heard == 5


async def test_a_limited_rate_is_kept(proxy):
    """20 kB at 40 kB/s take half a second each way."""
    talker = await Talker.to(proxy)
    proxy.change(up=Fault(bytes_per_s=40_000))
    began = time.monotonic()
    await talker.ask(b"x" * 20_000)
    assert 0.4 <= time.monotonic() - began < 1.5


async def test_a_slow_path_holds_back_the_sender(proxy, echo):
    """What does not pass is not piled up here: the sender's own buffers fill and it has to wait."""
    client = socket.create_connection(("127.0.0.1", proxy.port))
    client.setblocking(False)
    proxy.change(up=Fault(bytes_per_s=1000))
    loop, num_sent = asyncio.get_running_loop(), 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                await loop.sock_sendall(client, b"x" * _MIB)
                num_sent += 1
    client.close()
    # Two socket buffers of the kernel at each end, and ours.
    assert num_sent * _MIB < CHUNK_BYTES * CHUNKS + 16 * _MIB
    assert echo.num_heard < 5000


async def test_a_blackhole_swallows_and_then_forgets_the_connection(proxy, echo):
    """Nothing is told to anybody; new connections hang; after it there is no stream with a hole."""
    old = await Talker.to(proxy)
    await old.ask(b"before")
    proxy.blackhole()
    assert await old.is_unanswered()
    new = await Talker.to(proxy)
    assert await new.is_unanswered(b"first")
    assert echo.num_heard == len(b"before")
    proxy.heal()
    with pytest.raises(ConnectionError):
        await old.end()
    async with asyncio.timeout(2):
        assert await new.reader.readexactly(5) == b"first"


async def test_an_idle_connection_outlives_a_blackhole(proxy):
    """It lost nothing, so nothing is wrong with it."""
    talker = await Talker.to(proxy)
    await talker.ask(b"before")
    proxy.blackhole()
    await asyncio.sleep(0.1)
    proxy.heal()
    assert await talker.ask(b"after") == b"after"


async def test_a_partition_that_ends_in_time_loses_nothing(proxy, echo):
    """Held bytes arrive late and in order; so do new connections."""
    old = await Talker.to(proxy)
    await old.ask(b"before")
    proxy.hold()
    assert await old.is_unanswered(b"one")
    new = await Talker.to(proxy)
    assert await new.is_unanswered(b"two")
    proxy.heal()
    async with asyncio.timeout(2):
        assert await old.reader.readexactly(3) == b"one"
        assert await new.reader.readexactly(3) == b"two"
    assert await old.ask(b"three") == b"three"


@pytest.mark.parametrize(("dead", "num_heard"), [(Direction.UP, 0), (Direction.DOWN, 5)])
async def test_half_open_is_dead_in_one_direction(proxy, echo, dead, num_heard):
    """The other one still carries; neither side is told."""
    talker = await Talker.to(proxy)
    await talker.ask(b"")
    await _until(lambda: bool(echo.writers))
    proxy.half_open(dead)
    assert await talker.is_unanswered()
    assert echo.num_heard == num_heard
    if dead is Direction.UP:
        echo.writers[0].write(b"unasked")
        async with asyncio.timeout(1):
            assert await talker.reader.readexactly(7) == b"unasked"
    proxy.heal()
    with pytest.raises(ConnectionError):
        await talker.end()


async def test_a_hidden_end_leaves_a_connection_to_nobody(proxy, echo):
    """The target goes; its client may write for long and hears of it only when all is well."""
    talker = await Talker.to(proxy)
    await talker.ask(b"before")
    proxy.hide_ends()
    echo.writers[0].transport.abort()
    assert await talker.is_unanswered()
    assert await talker.is_unanswered()
    proxy.heal()
    with pytest.raises(ConnectionError):
        await talker.end()


async def test_reset_is_an_rst_to_both_ends(proxy, echo):
    """Every connection ends at once; a new one is welcome."""
    talkers = [await Talker.to(proxy) for _ in range(3)]
    for talker in talkers:
        await talker.ask(b"before")
    assert proxy.reset() == 3
    for talker in talkers:
        with pytest.raises(ConnectionError):
            await talker.end()
    await _until(lambda: len(echo.ends) == 3)
    assert set(echo.ends) == {"RST"}
    assert await (await Talker.to(proxy)).ask(b"after") == b"after"


async def test_refused_connections_leave_the_old_ones(proxy):
    """The port is closed, then it is the same port again."""
    talker = await Talker.to(proxy)
    await talker.ask(b"before")
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await Talker.to(proxy)
    assert await talker.ask(b"still") == b"still"
    proxy.heal()
    assert await (await Talker.to(proxy)).ask(b"after") == b"after"


async def test_flipped_bits_are_as_many_as_asked_for(proxy):
    """One bit in so many bytes; length and order stay."""
    talker = await Talker.to(proxy)
    proxy.change(down=Fault(flips_every=1000))
    payload = b"\0" * 100_000
    spoilt = await talker.ask(payload)
    flipped = [byte for byte in spoilt if byte]
    assert len(flipped) == 100
    assert all(byte.bit_count() == 1 for byte in flipped)
    proxy.heal()
    assert await talker.ask(payload) == payload


async def test_without_a_target_a_connection_is_reset():
    """Not left hanging: the caller may try again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with ChaosProxy.open(unused.getsockname()) as proxy:
            with pytest.raises(ConnectionError):
                await (await Talker.to(proxy)).end()
            assert proxy.num_connections == 0


def test_callers_without_a_loop_use_a_thread():
    """The same proxy, on a thread of its own, in front of a plain socket."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        ProxyThread(server.getsockname()) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
    ):
        peer, _ = server.accept()
        client.sendall(b"ping")
        assert peer.recv(4) == b"ping"
        assert proxy.call(ChaosProxy.reset) == 1
        with pytest.raises(ConnectionError):
            client.recv(1)
        peer.close()


async def _until(is_so) -> None:
    async def probe() -> bool:
        return is_so()

    await eventually(probe, timeout_s=5, interval_s=0.01)
