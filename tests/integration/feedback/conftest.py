"""feedback_svc on a real nats-server: in this process, or as a child that may be killed."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from feedback_svc.app import build
from feedback_svc.settings import FeedbackSettings
from selm.bus import Bus
from selm.nats_server import NatsServer
from selm.server import serve
from selm.settings import SharedSettings
from selm.testing import free_port
from tests.integration.feedback.command_line import CommandLine
from tests.integration.feedback.feedback_client import Feedback
from tests.integration.feedback.peers import Peers
from tests.integration.feedback.processes import Child


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid.uuid4().hex[:16]}"


def _shared(url: str) -> SharedSettings:
    return SharedSettings(nats_url=url, grace_s=1)


@asynccontextmanager
async def _running(url: str, **settings: Any) -> AsyncIterator[str]:
    """feedback_svc in this process, until the block ends; yields its address."""
    port = free_port()
    chosen = FeedbackSettings(
        port=port, metrics_port=free_port(), shared=_shared(url), policy_interval_s=0.05, **settings
    )
    ready, stop = asyncio.Event(), asyncio.Event()
    server = asyncio.create_task(serve("feedback", chosen, build, ready=ready, stop=stop))
    waiter = asyncio.create_task(ready.wait())
    await asyncio.wait({server, waiter}, return_when=asyncio.FIRST_COMPLETED)
    if server.done():
        await server
    try:
        yield f"127.0.0.1:{port}"
    finally:
        stop.set()
        await server


@asynccontextmanager
async def _client_of(address: str, tenant: str) -> AsyncIterator[Feedback]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Feedback(channel, tenant)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with Bus.open(_shared(nats_url), "test") as bus:
        await bus.ready()
        yield bus


@pytest.fixture
def peers(bus: Bus, tenant: str) -> Peers:
    return Peers(bus, tenant)


@pytest.fixture
def running() -> Any:
    """`async with running(url, **settings) as address`."""
    return _running


@pytest.fixture
def client_of() -> Any:
    """`async with client_of(address, tenant) as client`."""
    return _client_of


@pytest.fixture
def peers_on(tenant: str) -> Callable[[Bus], Peers]:
    """The other services on a bus of the test's own."""
    return lambda bus: Peers(bus, tenant)


@pytest.fixture
async def own_bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to the broker that this test kills."""
    async with Bus.open(_shared(nats_server.url), "test") as bus:
        await bus.ready()
        yield bus


@pytest.fixture
async def client(nats_url: str, tenant: str) -> AsyncIterator[Feedback]:
    """A ready feedback_svc that trains nothing by itself."""
    async with (
        _running(nats_url, training_paused=True) as address,
        _client_of(address, tenant) as client,
    ):
        yield await client.wait_ready()


@pytest.fixture
async def child() -> AsyncIterator[Callable[[str], Child]]:
    """Makes children; none outlives the test."""
    children: list[Child] = []

    def make(url: str) -> Child:
        children.append(Child(url))
        return children[-1]

    yield make
    for one in children:
        await one.kill()


@pytest.fixture
def memory_target() -> str:
    """Where the command line's feedback_svc looks for memory_svc; nobody is there."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
async def selm(
    nats_url: str, child: Any, tenant: str, memory_target: str
) -> AsyncIterator[CommandLine]:
    """The command line, on a service whose log does not end up in what is printed."""
    one = child(nats_url)
    await one.start(memory_target=memory_target, training_paused="true")
    async with _client_of(one.address, tenant) as client:
        yield CommandLine(await client.wait_ready(), one.address)
