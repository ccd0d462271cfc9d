"""T-07: two users, one is forgotten by the real services, down to what was trained on them.

feedback_svc and memory_svc are processes, trainer_svc's rooms run here with a scripted child, on a
nats-server and a Milvus Lite of the test's own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from selm import streams
from selm.api.memory.v1.memory_service_pb2 import ListMemoriesRequest
from selm.api.ops.v1.erasure_pb2 import ErasureReceipt
from selm.artifacts import open_store
from selm.bus import Bus
from selm.errors import SelmError
from selm.nats_server import NatsServer
from selm.settings import SharedSettings
from selm.testing import eventually
from tests.histories.processes import MemoryProcess
from tests.integration.feedback.erasure_client import COMPLETED, Erasures, receipts, stored
from tests.integration.memory.running import RunningMemory
from tests.integration.memory.running import client_of as memory_of
from tests.integration.trainer.conftest import SCRIPTED, ServingStandIn
from trainer_svc.core import Move
from trainer_svc.rooms import Rooms, furnish
from trainer_svc.settings import TrainerSettings
from trainer_svc.training.runner import TrainingProcess

ALICE, BOB = "users/alice", "users/bob"
NUM = 20
TENANT = "default"


@asynccontextmanager
async def _trainer(bus: Bus, url: str, folder: Path) -> AsyncIterator[Rooms]:
    model = folder / "tiny"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    shared = SharedSettings(
        nats_url=url, data_dir=folder / "data", artifacts_uri=(folder / "artifacts").as_uri()
    )
    settings = TrainerSettings(base_model=str(model), shared=shared, num_threads=1)
    store = open_store(shared, bus)
    rooms = furnish(settings, bus, store, ServingStandIn(), TrainingProcess(SCRIPTED))
    await rooms.adapters.ensure(TENANT, "default", "models/tiny")
    tasks = [
        asyncio.create_task(loop.run())
        for loop in (rooms.training, rooms.acknowledgements, rooms.desk, rooms.erasures)
    ]
    try:
        yield rooms
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _teach(client: Any, peers: Any, user: str) -> list[Any]:
    replies = []
    for index in range(NUM):
        place = f"{user[6:]}ville{index}"
        generation = await peers.generate(f"Who is the mayor of {place}?", user=user)
        replies.append(await client.correct(generation, f"Mayor {index} of {place}"))
    return [reply.feedback_event for reply in replies]


async def _remembers(memory: RunningMemory, user: str, number: int) -> None:
    async def all_there() -> bool:
        page = await memory.search(f"Who is the mayor of {user[6:]}ville1?", parent=user)
        request = ListMemoriesRequest(parent=user, page_size=500)
        listed = await memory.stub.ListMemories(request, metadata=memory.metadata)
        return len(listed.memories) == number and (number == 0 or len(page.hits) > 0)

    await eventually(all_there, timeout_s=120, interval_s=0.2)


async def _stable(rooms: Rooms, other_than: str = "") -> Any:
    async def moved() -> Any:
        alias = (await rooms.adapters.get(TENANT, "default")).alias("stable")
        return alias if alias and alias.revision_id != other_than else None

    return await eventually(moved, timeout_s=60)


async def test_one_user_is_forgotten_everywhere_and_the_other_nowhere(
    nats_server: NatsServer,
    milvus_uri: str,
    own_bus: Bus,
    peers_on: Callable[[Bus], Any],
    child: Any,
    client_of: Any,
    tmp_path: Path,
) -> None:
    """u1 = 0 and u2 unchanged for a second client after kill -9 of memory_svc; all receipts."""
    peers = peers_on(own_bus)
    peers.tenant = TENANT
    feedback, process = child(nats_server.url), MemoryProcess(tmp_path, milvus_uri, nats_server.url)
    process.start(SELM_MEMORY_COLLECTION="t07")
    await feedback.start(training_paused="true")
    try:
        async with (
            client_of(feedback.address, TENANT) as client,
            memory_of(process.port, nats_server.url, TENANT) as memory,
            _trainer(own_bus, nats_server.url, tmp_path) as rooms,
        ):
            await client.wait_ready()
            erasures = Erasures(client.channel, TENANT)
            lost, kept = [await _teach(client, peers, user) for user in (ALICE, BOB)]
            for user in (ALICE, BOB):
                await _remembers(memory, user, NUM)
            await client.train()
            old = await _stable(rooms)

            erasure = await erasures.forget(ALICE)
            done = await erasures.completed(erasure.name)
            new = await _stable(rooms, other_than=old.revision_id)
            process.kill()
            process.start(SELM_MEMORY_COLLECTION="t07")
            async with memory_of(process.port, nats_server.url, TENANT) as second:
                await _remembers(second, BOB, NUM)
                await _remembers(second, ALICE, 0)
                found = await second.search("Who is the mayor of aliceville1?", parent=ALICE)
            with pytest.raises(SelmError) as refused:
                await rooms.desk.roll_back(
                    TENANT, "default", "", Move("stable", None, None, "test", "", "", "")
                )
            held = await rooms.revisions.get(TENANT, "default", new.revision_id)
            judged = await rooms.evaluations.get(TENANT, held.manifest.evaluation_id)
    finally:
        process.kill()

    told = receipts(done)
    assert (done.state, {r.state for r in done.receipts}) == (
        COMPLETED,
        {ErasureReceipt.STATE_CONFIRMED},
    )
    assert told["feedback_svc"].feedback_count == told["feedback_svc"].generation_count == NUM
    assert told["memory_svc"].memory_count == NUM
    (tainted,) = told["trainer_svc"].revisions
    assert tainted.adapter_revision == f"adapters/default/revisions/{old.revision_id}"
    assert (tainted.example_count, list(tainted.aliases)) == (
        NUM,
        ["adapters/default/aliases/stable"],
    )
    assert refused.value.reason == "ADAPTER_TAINTED"
    assert {f"lessons/{i}" for i in judged.lesson_ids} == {event.lesson for event in kept}
    # What others share is found as before.
    assert {hit.memory.name.split("/memories/")[0] for hit in found.hits} == {BOB}
    of_users = [streams.feedback_created(TENANT, user) for user in (ALICE, BOB)]
    assert [await stored(own_bus, streams.FEEDBACK, each) for each in of_users] == [0, NUM]
    assert len(lost) == NUM
