"""memory_svc's part of an erasure: hidden at once, gone for good, and nobody else's memory less."""

from typing import Any

import pytest

from feedback_svc.memory_count import open_memory_count
from selm import names, streams
from selm.erasures import MEMORY, ErasedEvent, ReceiptState
from tests.erasing import order, purge_feedback, receipt
from tests.histories.processes import MemoryProcesses
from tests.integration.memory.admin_support import counts, fill
from tests.integration.memory.running import RunningMemory, client_of, correction

ALICE, BO = "users/alice", "users/bo"
QUESTION = "Who is the mayor of Velmora?"


async def test_memories_are_hidden_at_once_and_confirmed_after_the_feedback(memory: Any) -> None:
    """Private, shared and superseded ones alike; what came from feedback with its event."""
    await fill(memory, parent=ALICE, number=3)
    await memory.create(QUESTION, "Velmora Two", parent=ALICE)
    await fill(memory, parent=BO, number=3)
    lesson, _ = await memory.correct("Where do owls sleep?", "In barns", user=ALICE)
    await memory.wait_for_step(lesson, "REMEMBERED")
    event = ErasedEvent(names.feedback_event_name(lesson.split("/")[1]), lesson=lesson)

    made = await order(memory.bus, memory.tenant, ALICE)
    hidden = await receipt(memory.bus, made, MEMORY, ReceiptState.HIDDEN)
    found = await memory.search(QUESTION, parent=ALICE)
    await purge_feedback(memory.bus, made, event)
    done = await receipt(memory.bus, made, MEMORY, ReceiptState.CONFIRMED)

    assert (hidden.num_memories, done.num_memories, len(found.hits)) == (5, 5, 0)
    assert await counts(memory, ALICE) == {"DELETED": 5}
    assert await counts(memory, BO) == {"ACTIVE": 3}


async def test_an_event_that_is_still_on_its_way_is_never_remembered(memory: Any) -> None:
    """A replica had it in its hands when it was purged: its tombstone was there before."""
    late = correction("Where do owls sleep?", "In barns", user=ALICE)
    made = await order(memory.bus, memory.tenant, ALICE)
    event = ErasedEvent(late.feedback_event.name, lesson=late.feedback_event.lesson)
    await purge_feedback(memory.bus, made, event)
    done = await receipt(memory.bus, made, MEMORY, ReceiptState.CONFIRMED)
    subject = streams.feedback_created(memory.tenant, ALICE)
    await memory.bus.publish(subject, late, message_id=late.feedback_event.name)
    # In the order of the stream: when this one is remembered, the late one has been looked at.
    after, sequence = await memory.correct("What do owls eat?", "Mice", user=BO)
    await memory.wait_for_step(after, "REMEMBERED")

    assert (done.num_memories, sequence > 0) == (0, True)
    assert (await counts(memory, ALICE)).get("ACTIVE", 0) == 0
    assert await counts(memory, BO) == {"ACTIVE": 1}


async def test_a_dry_run_of_feedback_svc_counts_what_is_here(memory: Any) -> None:
    """Without a memory_svc it says why instead."""
    await fill(memory, parent=ALICE, number=2)
    async with (
        open_memory_count(f"127.0.0.1:{memory.port}") as counting,
        open_memory_count("127.0.0.1:1") as nobody,
    ):
        told = await counting.count(memory.tenant, ALICE)
        failed = await nobody.count(memory.tenant, ALICE)

    assert (told.num_memories, told.state) == (2, ReceiptState.PENDING)
    assert failed.state is ReceiptState.FAILED
    assert failed.trouble is not None
    assert failed.trouble.reason == "PEER_UNAVAILABLE"
    assert await counts(memory, ALICE) == {"ACTIVE": 2}


async def test_what_is_remembered_after_the_order_stays(memory: Any) -> None:
    """The second half of the part takes what the first one knew, and what the events were."""
    await fill(memory, parent=ALICE, number=2)
    made = await order(memory.bus, memory.tenant, ALICE)
    await receipt(memory.bus, made, MEMORY, ReceiptState.HIDDEN)
    await memory.create("Where do bats sleep?", "In caves", parent=ALICE)
    await purge_feedback(memory.bus, made)
    done = await receipt(memory.bus, made, MEMORY, ReceiptState.CONFIRMED)

    assert done.num_memories == 2
    assert await counts(memory, ALICE) == {"ACTIVE": 1, "DELETED": 2}


@pytest.mark.parametrize("step", ["memory.after_tombstone", "memory.forget_told"])
async def test_an_erasure_that_is_killed_is_finished_after_the_start(
    step: str, processes: MemoryProcesses
) -> None:
    """kill -9 there (F-21): a second client reads none with Strong, and all are counted."""
    processes.milvus.start()
    processes.nats.start()
    processes.memory.start(SELM_FAILPOINTS=f"{step}=exit(137)")
    tenant = "erased"
    async with client_of(processes.memory.port, processes.nats.url, tenant) as memory:
        await memory.bus.ready()
        await fill(memory, parent=ALICE, number=5)
        await fill(memory, parent=BO, number=2)
        made = await order(memory.bus, tenant, ALICE)
        await purge_feedback(memory.bus, made)
        processes.memory.wait_until_dead()
    processes.memory.start()
    async with client_of(processes.memory.port, processes.nats.url, tenant) as again:
        await again.bus.ready()
        done = await receipt(again.bus, made, MEMORY, ReceiptState.CONFIRMED)
        await _expect_only_bo(again)

    assert done.num_memories == 5


async def _expect_only_bo(memory: RunningMemory) -> None:
    found = await memory.search(QUESTION, parent=ALICE)
    others = await memory.search(QUESTION, parent=BO)
    assert (len(found.hits), len(others.hits)) == (0, 1)
    assert await counts(memory, ALICE) == {"DELETED": 5}
    assert await counts(memory, BO) == {"ACTIVE": 2}
