"""What was erased stays erased after kill -9 of memory_svc and of Milvus Lite."""

import asyncio

import grpc

from selm.api.memory.v1 import memory_admin_service_pb2 as admin_pb
from selm.api.memory.v1 import memory_admin_service_pb2_grpc, memory_service_pb2_grpc
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.api.memory.v1.memory_pb2 import MEMORY_TYPE_CORRECTION, Memory
from tests.histories.processes import MemoryProcesses

ERASED, KEPT = "users/ada", "users/ben"
NUM_MEMORIES = 40


def _question(number: int) -> str:
    return f"Who keeps the light of Osgrave Point {number}?"


async def _fill(stub: memory_service_pb2_grpc.MemoryServiceStub, user: str) -> None:
    requests = [
        pb.CreateMemoryRequest(
            memory=Memory(
                type=MEMORY_TYPE_CORRECTION, question=_question(number), text=f"Keeper {number}"
            )
        )
        for number in range(NUM_MEMORIES)
    ]
    await stub.BatchCreateMemories(pb.BatchCreateMemoriesRequest(parent=user, requests=requests))


async def _live(target: str, user: str) -> tuple[int, int]:
    """What a new client finds: how many are listed, and hits for one of the questions."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub = memory_service_pb2_grpc.MemoryServiceStub(channel)
        listed = await stub.ListMemories(pb.ListMemoriesRequest(parent=user, page_size=500))
        found = await stub.SearchMemories(pb.SearchMemoriesRequest(parent=user, query=_question(7)))
        return len(listed.memories), len(found.hits)


async def test_an_erased_user_is_at_zero_after_a_kill(processes: MemoryProcesses) -> None:
    """A second client sees nothing of the one and all of the other, before and after kill -9."""
    await asyncio.to_thread(processes.start)
    async with grpc.aio.insecure_channel(processes.target) as channel:
        stub = memory_service_pb2_grpc.MemoryServiceStub(channel)
        await _fill(stub, ERASED)
        await _fill(stub, KEPT)
        admin = memory_admin_service_pb2_grpc.MemoryAdminServiceStub(channel)
        purged = await admin.PurgeMemories(admin_pb.PurgeMemoriesRequest(parent=ERASED, force=True))
    before = [await _live(processes.target, user) for user in (ERASED, KEPT)]
    await asyncio.to_thread(processes.memory.kill)
    await asyncio.to_thread(processes.kill_milvus_and_restart)
    await asyncio.to_thread(processes.memory.start)
    after = [await _live(processes.target, user) for user in (ERASED, KEPT)]

    assert purged.purge_count == NUM_MEMORIES
    assert before == after == [(0, 0), (NUM_MEMORIES, 1)]
