"""Purge and statistics: what is erased is gone for good, and nothing else is."""

import os
import uuid
from typing import Any

import grpc
import pytest

from selm.api.memory.v1 import memory_admin_service_pb2 as pb
from selm.api.memory.v1 import memory_pb2, search_pb2
from selm.errors import from_rpc_error
from tests.integration.memory.admin_support import counts, fill, purge
from tests.integration.memory.running import USER, running_memory

OTHER = "users/bo"
QUESTION = "Who is the mayor of Velmora?"


async def test_erasing_a_user_leaves_the_others_and_outlives_a_restart(
    milvus_uri: str, nats_server: Any
) -> None:
    """A is at zero and B as before, for a second client of a service that was started again."""
    own = {"collection": f"c{uuid.uuid4().hex}", "tenant": "erased"}
    async with running_memory(milvus_uri, nats_server.url, **own) as memory:
        await memory.bus.ready()
        names = await fill(memory, number=4)
        # A superseded one is erased too.
        await memory.create(QUESTION, "Velmora Two")
        await fill(memory, parent=OTHER)
        before = await counts(memory, OTHER)
        purged = await purge(memory)
        at_once = await counts(memory), await counts(memory, OTHER)

    async with running_memory(milvus_uri, nats_server.url, **own) as memory:
        after = await counts(memory), await counts(memory, OTHER)
        found = await memory.search(QUESTION, parent=USER)
        others = await memory.search(QUESTION, parent=OTHER)
        whole = await memory.admin.GetMemoryStats(
            pb.GetMemoryStatsRequest(parent="users/-"), metadata=memory.metadata
        )

    assert before == {"ACTIVE": 3}
    assert purged.purge_count == 5
    assert set(names) < set(purged.sample_memories)
    assert ({"DELETED": 5}, {"ACTIVE": 3}) == at_once == after
    assert (len(found.hits), len(others.hits)) == (0, 1)
    assert whole.user_count == 1


async def test_without_force_a_purge_only_counts(memory: Any) -> None:
    """What it would delete, with names, at most twenty of them."""
    names = await fill(memory)
    told = await purge(memory, force=False)

    assert (3, sorted(names)) == (told.purge_count, sorted(told.sample_memories))
    assert await counts(memory) == {"ACTIVE": 3}


async def test_a_purge_takes_only_what_its_filter_names(memory: Any) -> None:
    """Here: one type, one label."""
    await fill(memory, number=2)
    context = memory_pb2.MEMORY_TYPE_CONTEXT
    await memory.create("", "on holiday", type=context, labels={"trip": "alps"})
    await memory.create("", "on a diet", type=context)
    label = search_pb2.LabelCondition(
        key="trip", operator=search_pb2.LabelCondition.OPERATOR_EXISTS
    )
    of_label = await purge(
        memory, filter=search_pb2.MemoryFilter(types=[context], labels=[label]), force=False
    )
    of_type = await purge(memory, filter=search_pb2.MemoryFilter(types=[context]))

    assert (of_label.purge_count, of_type.purge_count) == (1, 2)
    assert await counts(memory) == {"ACTIVE": 2, "DELETED": 2}


async def test_a_purge_fails_the_lessons_of_what_it_deletes(memory: Any) -> None:
    """So that later training leaves them out."""
    lesson, _ = await memory.correct(QUESTION, "Odette Marsh")
    name = (await memory.wait_for_step(lesson, "REMEMBERED"))[-1][1]
    await purge(memory)

    assert ("FAILED", name) == (await memory.steps(lesson))[-1]


async def test_a_repeat_with_its_request_id_deletes_nothing_newer(memory: Any) -> None:
    """The first result again; another purge under that id is refused."""
    await fill(memory, number=2)
    request_id = str(uuid.uuid4())
    first = await purge(memory, request_id=request_id)
    await fill(memory, number=1)
    again = await purge(memory, request_id=request_id)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await purge(memory, OTHER, request_id=request_id)

    assert (2, first) == (again.purge_count, again)
    assert await counts(memory) == {"ACTIVE": 1, "DELETED": 2}
    assert from_rpc_error(refused.value).reason == "REQUEST_ID_REUSED"


async def test_a_broken_purge_is_finished_by_the_same_again(
    own_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies between two chunks: what it said is deleted, and the repeat does the rest."""
    memory = own_memory
    for number in range(70):
        context = memory_pb2.MEMORY_TYPE_CONTEXT
        await memory.create("", f"note {os.urandom(4).hex()} {number}", type=context)
    monkeypatch.setenv("SELM_FAILPOINTS", "memory.purge_chunk=2*raise(STORE_UNAVAILABLE)")
    with pytest.raises(grpc.aio.AioRpcError) as broken:
        await purge(memory)
    monkeypatch.delenv("SELM_FAILPOINTS")
    half = await counts(memory)
    rest = await purge(memory)

    assert from_rpc_error(broken.value).reason == "STORE_UNAVAILABLE"
    assert half == {"ACTIVE": 6, "DELETED": 64}
    assert (rest.purge_count, await counts(memory)) == (6, {"DELETED": 70})


async def test_statistics_know_sizes_times_and_models(memory: Any) -> None:
    """Text and vectors in bytes; one group per type, state and model."""
    created = await memory.create(QUESTION, "Odette Marsh")
    stats = await memory.admin.GetMemoryStats(
        pb.GetMemoryStatsRequest(parent=USER), metadata=memory.metadata
    )
    (group,) = stats.stats

    assert (group.memory_count, stats.user_count) == (1, 1)
    assert len(QUESTION) + len("Odette Marsh") + 4 * 384 == group.size_bytes
    assert created.memory.create_time == group.oldest_create_time == group.newest_create_time
    assert created.memory.embedding_model == group.embedding_model != ""
