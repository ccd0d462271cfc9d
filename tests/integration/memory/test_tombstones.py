"""What was deleted stays deleted: after a restored backup, a crash in between, without the bus."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from memory_svc.conditions import Condition
from memory_svc.core import Memory, State, owner_of
from memory_svc.store.embedder import SentenceEmbedder
from memory_svc.store.milvus import MilvusStore
from memory_svc.store.options import StoreOptions
from selm import streams
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.errors import from_rpc_error
from selm.testing import eventually
from tests.histories.processes import MemoryProcess
from tests.integration.memory.running import RunningMemory, client_of, running_memory

QUESTION = "Who is the mayor of Quillhaven?"


@asynccontextmanager
async def store_of(milvus_uri: str, collection: str) -> AsyncIterator[MilvusStore]:
    """The collection of a running memory_svc, as a backup tool would reach it."""
    embedder = await SentenceEmbedder.load("packaged", 1)
    model = embedder.model
    embedder.close()
    options = StoreOptions(milvus_uri, "", collection, "Strong", 5.0, 200, 384, model, "packaged")
    store = MilvusStore(options)
    try:
        yield store
    finally:
        await store.aclose()


async def delete(memory: RunningMemory, name: str) -> None:
    await memory.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), metadata=memory.metadata)


async def reason_of(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return from_rpc_error(refused.value).reason


async def seen(memory: RunningMemory, name: str) -> tuple[str, int, int]:
    """What Get, List and Search give of it."""
    got = await reason_of(
        memory.stub.GetMemory(pb.GetMemoryRequest(name=name), metadata=memory.metadata)
    )
    listed = await memory.stub.ListMemories(
        pb.ListMemoriesRequest(parent=name.split("/memories/")[0]), metadata=memory.metadata
    )
    found = await memory.search(QUESTION)
    return got, len(listed.memories), len(found.hits)


NOTHING = ("RESOURCE_NOT_FOUND", 0, 0)


async def row_of(store: MilvusStore, tenant: str, name: str) -> Memory:
    memory = await store.get(tenant, owner_of(name)[1])
    assert memory is not None
    return memory


async def test_a_restored_row_is_never_returned_again_and_is_deleted_anew(
    milvus_uri: str, nats_server: Any
) -> None:
    """A backup from before the delete comes back while the service runs, and before a start."""
    own = {"collection": f"c{uuid.uuid4().hex}", "tenant": "restored"}
    async with store_of(milvus_uri, own["collection"]) as store:

        async def is_buried() -> bool:
            row = await row_of(store, "restored", name)
            return (row.state, row.text, row.question) == (State.DELETED, "", "")

        async with running_memory(milvus_uri, nats_server.url, **own) as memory:
            await memory.bus.ready()
            name = (await memory.create(QUESTION, "Odette Marsh")).memory.name
            backup = await row_of(store, "restored", name)
            await delete(memory, name)
            await store.put([backup])
            while_running = await seen(memory, name)
            buried_while_running = await eventually(is_buried)
            await store.put([backup])

        async with running_memory(milvus_uri, nats_server.url, **own) as memory:
            after_start = await seen(memory, name)
            buried_after_start = await eventually(is_buried)
            again = await seen(memory, name)

    assert backup.text == "Odette Marsh"
    assert [while_running, after_start, again] == [NOTHING] * 3
    assert buried_while_running and buried_after_start


async def test_a_row_that_is_lost_altogether_is_not_remembered_again(
    milvus_uri: str, nats_server: Any
) -> None:
    """The store is new, the stream is not: a correction that is delivered again stays deleted, and
    its lesson is not said to be remembered."""
    tenant = f"t{uuid.uuid4().hex[:12]}"
    async with running_memory(milvus_uri, nats_server.url, tenant=tenant) as memory:
        await memory.bus.ready()
        lesson, _ = await memory.correct(QUESTION, "Odette Marsh")
        name = (await memory.wait_for_step(lesson, "REMEMBERED"))[-1][1]
        await delete(memory, name)
        steps = await memory.steps(lesson)
        # A new durable consumer reads the stream from its beginning.
        await memory.bus.connection.jetstream().delete_consumer(
            streams.FEEDBACK.name, "memory_remember"
        )

    async with running_memory(milvus_uri, nats_server.url, tenant=tenant) as memory:
        await memory.bus.ready()

        async def is_delivered() -> bool:
            jetstream = memory.bus.connection.jetstream()
            info = await jetstream.consumer_info(streams.FEEDBACK.name, "memory_remember")
            return bool(info.ack_floor.stream_seq >= 1)

        await eventually(is_delivered)
        after = await seen(memory, name)
        steps_after = await memory.steps(lesson)

    assert after == NOTHING
    assert [("REMEMBERED", name), ("FAILED", name)] == steps == steps_after


async def test_a_delete_that_died_half_way_is_finished_by_the_next_start(
    milvus_uri: str, nats_server: Any, tmp_path: Path
) -> None:
    """Killed between the stream and the store: nobody sees the memory, and its row is deleted."""
    own = {"collection": f"c{uuid.uuid4().hex}", "tenant": "halfway"}
    process = MemoryProcess(tmp_path, milvus_uri, nats_server.url)
    await asyncio.to_thread(
        process.start,
        SELM_MEMORY_COLLECTION=own["collection"],
        SELM_FAILPOINTS="memory.after_tombstone=exit(137)",
    )
    async with store_of(milvus_uri, own["collection"]) as store:
        async with client_of(process.port, nats_server.url, "halfway") as dying:
            name = (await dying.create(QUESTION, "Odette Marsh")).memory.name
            reason = await reason_of(delete(dying, name))
        exit_code = await asyncio.to_thread(process.wait_until_dead)
        row = await row_of(store, "halfway", name)

        async with running_memory(milvus_uri, nats_server.url, **own) as memory:
            after_start = await seen(memory, name)

            async def is_buried() -> bool:
                return (await row_of(store, "halfway", name)).state is State.DELETED

            buried = await eventually(is_buried)

    assert (reason, exit_code) == ("PEER_UNAVAILABLE", 137)
    assert (row.state, row.text) == (State.ACTIVE, "Odette Marsh")
    assert (after_start, buried) == (NOTHING, True)


async def test_a_delete_whose_store_write_failed_is_a_delete(
    own_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told of the failure; what it asked for has happened all the same, and the
    repeat is fine."""
    memory = own_memory
    created = await memory.create(QUESTION, "Odette Marsh")
    monkeypatch.setenv("SELM_FAILPOINTS", "memory.after_tombstone=raise(STORE_UNAVAILABLE)")
    reason = await reason_of(delete(memory, created.memory.name))
    monkeypatch.delenv("SELM_FAILPOINTS")
    after = await seen(memory, created.memory.name)
    await delete(memory, created.memory.name)

    assert (reason, after) == ("STORE_UNAVAILABLE", NOTHING)


async def test_without_the_bus_nothing_is_deleted(milvus_uri: str, nats_server: Any) -> None:
    """BUS_UNAVAILABLE, and the memory is as it was."""
    async with running_memory(milvus_uri, nats_server.url) as memory:
        await memory.bus.ready()
        created = await memory.create(QUESTION, "Odette Marsh")
        nats_server.kill()
        reason = await reason_of(delete(memory, created.memory.name))
        found = await memory.search(QUESTION)
        nats_server.start()

    assert (reason, [h.memory.text for h in found.hits]) == ("BUS_UNAVAILABLE", ["Odette Marsh"])


async def test_a_replica_knows_what_another_deleted(milvus_uri: str, nats_server: Any) -> None:
    """Through the stream alone: the row that it would read is not deleted."""
    one = {"collection": f"c{uuid.uuid4().hex}", "tenant": "replicas"}
    other = {"collection": f"c{uuid.uuid4().hex}", "tenant": "replicas"}
    async with (
        running_memory(milvus_uri, nats_server.url, **one) as first,
        running_memory(milvus_uri, nats_server.url, **other) as second,
        store_of(milvus_uri, one["collection"]) as store,
        store_of(milvus_uri, other["collection"]) as copy,
    ):
        await first.bus.ready()
        name = (await first.create(QUESTION, "Odette Marsh")).memory.name
        await copy.put([await row_of(store, "replicas", name)])
        before = await second.search(QUESTION)
        await delete(first, name)

        async def is_gone() -> bool:
            return not (await second.search(QUESTION)).hits

        gone = await eventually(is_gone)
        rest = await copy.find(Condition("replicas", states=(State.DELETED,)), 10)

    assert [hit.memory.text for hit in before.hits] == ["Odette Marsh"]
    assert gone
    assert [name] == [memory.name for memory in rest]


async def test_an_unreachable_bus_holds_up_a_start_for_a_moment_only(
    milvus_uri: str, free_port: int
) -> None:
    """Searches go on without it; rows that are marked as deleted are kept out all the same."""
    async with running_memory(milvus_uri, f"nats://127.0.0.1:{free_port}") as memory:
        await memory.create(QUESTION, "Odette Marsh")
        found = await memory.search(QUESTION)

    assert [hit.memory.text for hit in found.hits] == ["Odette Marsh"]
