"""memory_svc on real servers: Milvus Lite, nats-server, the packaged embedder.

Most tests share one that runs as a process of its own, each as a tenant of its own: to start one
takes longer than most of them.
"""

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from selm.milvus_server import MilvusServer, MilvusServerOptions
from selm.nats_server import NatsServer, NatsServerOptions
from selm.testing import free_port as pick_free_port
from tests.histories.processes import MemoryProcess, MemoryProcesses
from tests.integration.memory.running import (
    RunningMemory,
    client_of,
    is_foreign,
    patience,
    running_memory,
)


@dataclass(frozen=True)
class SharedMemory:
    """Where the memory_svc of all tests is."""

    port: int
    nats_url: str


@pytest.fixture(scope="package")
def shared_memory(
    milvus_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedMemory]:
    """On a bus of its own: it must not remember what tests of other services say."""
    folder = tmp_path_factory.mktemp("shared_memory")
    nats = NatsServer(NatsServerOptions(folder / "nats", pick_free_port(), pick_free_port()))
    nats.start()
    process = MemoryProcess(folder, milvus_uri, nats.url)
    try:
        more = {f"SELM_MEMORY_{name.upper()}": str(value) for name, value in patience().items()}
        process.start(SELM_MEMORY_COLLECTION=f"c{uuid.uuid4().hex}", **more)
        yield SharedMemory(process.port, nats.url)
    finally:
        process.kill()
        nats.stop()


@pytest.fixture(autouse=True)
def no_collections_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A Milvus that was given to the tests gets rid of what each of them has loaded."""
    if not is_foreign():
        yield
        return
    # Before the collections are counted, so that it is none of those to be dropped.
    request.getfixturevalue("shared_memory")
    milvus_uri = request.getfixturevalue("milvus_uri")
    client = MilvusClient(uri=milvus_uri, timeout=60, dedicated=True)
    before = set(client.list_collections())
    yield
    for name in set(client.list_collections()) - before:
        for alias in client.list_aliases(name)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(name)
    client.close()


@pytest.fixture
async def memory(shared_memory: SharedMemory) -> AsyncIterator[RunningMemory]:
    """A tenant of its own at the memory_svc of all."""
    tenant = f"t{uuid.uuid4().hex[:12]}"
    async with client_of(shared_memory.port, shared_memory.nats_url, tenant) as running:
        await running.bus.ready()
        yield running


@pytest.fixture
async def own_memory(milvus_uri: str, nats_server: Any) -> AsyncIterator[RunningMemory]:
    """A memory_svc in this process and a bus for this test alone."""
    async with running_memory(milvus_uri, nats_server.url) as running:
        await running.bus.ready()
        yield running


@pytest.fixture
def milvus_server(tmp_path: Path) -> Iterator[MilvusServer]:
    """A Milvus Lite of this test alone, which it may kill() and start() again."""
    server = MilvusServer(MilvusServerOptions(tmp_path / "milvus", pick_free_port()))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[MemoryProcesses]:
    """memory_svc and its servers as processes of their own, not yet started."""
    running = MemoryProcesses(tmp_path)
    yield running
    running.stop()
