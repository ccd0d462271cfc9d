"""A live collection moves to another embedding model: nothing is unanswered, nothing is lost."""

import asyncio
from typing import Any

import grpc
import pytest

from selm.api.memory.v1 import memory_admin_service_pb2 as admin_pb
from selm.api.memory.v1 import memory_admin_service_pb2_grpc, memory_service_pb2_grpc
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.api.memory.v1.memory_pb2 import MEMORY_TYPE_CORRECTION, Memory
from selm.api.memory.v1.reembed_job_pb2 import ReembedJob
from selm.testing import eventually
from tests.histories.processes import MemoryProcesses
from tests.integration.memory.other_embedder import make_other_embedder
from tests.integration.memory.running import USER, RunningMemory, running_memory

NUM_MEMORIES = 150
_FINAL = (ReembedJob.STATE_SUCCEEDED, ReembedJob.STATE_FAILED, ReembedJob.STATE_CANCELLED)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a second model."""
    return str(make_other_embedder(tmp_path_factory.mktemp("model")))


def _question(number: int) -> str:
    return f"What is the harbour code of Port Anselm {number}?"


def _request(model: str) -> admin_pb.CreateReembedJobRequest:
    return admin_pb.CreateReembedJobRequest(reembed_job=ReembedJob(target_embedding_model=model))


async def _create_all(stub: Any, metadata: Any = ()) -> None:
    requests = [
        pb.CreateMemoryRequest(
            parent=USER,
            memory=Memory(
                type=MEMORY_TYPE_CORRECTION, question=_question(number), text=f"HC-{number}"
            ),
        )
        for number in range(NUM_MEMORIES)
    ]
    request = pb.BatchCreateMemoriesRequest(parent=USER, requests=requests)
    await stub.BatchCreateMemories(request, metadata=metadata)


async def _ended(stub: Any, name: str) -> ReembedJob:
    async def look() -> ReembedJob | None:
        request = admin_pb.GetReembedJobRequest(name=name)
        job = (await stub.GetReembedJob(request)).reembed_job
        return job if job.state in _FINAL else None

    found = await eventually(look, timeout_s=120, interval_s=0.2)
    assert found is not None
    return found


async def test_every_search_is_right_while_memory_moves(
    milvus_uri: str, nats_server: Any, other_model: str
) -> None:
    """Old and new memories answer at every moment, and afterwards all of them are of the new
    model; a process that starts with the old setting goes on with the new one."""
    answers: list[bool] = []
    options = {"collection": "moving", "tenant": "moving", "reembed_settle_s": 0.5}
    async with running_memory(milvus_uri, nats_server.url, **options) as memory:
        await _create_all(memory.stub, memory.metadata)
        stub, stop = memory.admin, asyncio.Event()

        async def keep_asking() -> int:
            number = 0
            while not stop.is_set():
                new = NUM_MEMORIES + number
                await memory.create(_question(new), f"HC-{new}")
                for wanted in (new, number % NUM_MEMORIES):
                    reply = await memory.search(f"Port Anselm {wanted}: which harbour code?")
                    answers.append(reply.hits[0].memory.text == f"HC-{wanted}")
                number += 1
            return number

        asking = asyncio.create_task(keep_asking())
        job = (await stub.CreateReembedJob(_request(other_model))).reembed_job
        with pytest.raises(grpc.aio.AioRpcError) as second:
            await stub.CreateReembedJob(_request("/another"))
        ended = await _ended(stub, job.name)
        stop.set()
        num_new = await asking
        listed = await memory.stub.ListMemories(
            pb.ListMemoriesRequest(parent=USER, page_size=500), metadata=memory.metadata
        )
        name = listed.memories[-1].name
        history = await memory.stub.ListMemoryHistory(
            pb.ListMemoryHistoryRequest(parent=name), metadata=memory.metadata
        )
    async with running_memory(milvus_uri, nats_server.url, **options) as again:
        found = await again.search(_question(7) + " Please!", explain=True)

    assert ended.state == ReembedJob.STATE_SUCCEEDED, ended
    assert second.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert ended.search_agreement >= 0.9
    assert answers
    assert all(answers), f"{answers.count(False)} of {len(answers)} wrong"
    models = {m.embedding_model for m in listed.memories}
    assert len(models) == 1
    assert not models.pop().startswith("all-MiniLM-L6-v2")
    assert len(listed.memories) == min(500, NUM_MEMORIES + num_new)
    assert next(change.kind for change in history.changes) == 1
    assert 9 in [change.kind for change in history.changes]
    assert found.hits[0].memory.text == "HC-7"


@pytest.mark.parametrize("failpoint", ["after_batch=2*exit(137)", "before_switch=exit(137)"])
async def test_a_job_goes_on_after_a_kill(
    processes: MemoryProcesses, other_model: str, failpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while copying, or just before the switch: the next process ends the job, and keeps
    what was written as soon as it served again."""
    monkeypatch.setenv("SELM_FAILPOINTS", f"memory.reembed.{failpoint}")
    monkeypatch.setenv("SELM_MEMORY_REEMBED_SETTLE_S", "0.5")
    await asyncio.to_thread(processes.start)
    async with grpc.aio.insecure_channel(processes.target) as channel:
        memories = memory_service_pb2_grpc.MemoryServiceStub(channel)
        stub = memory_admin_service_pb2_grpc.MemoryAdminServiceStub(channel)
        await _create_all(memories)
        job = (await stub.CreateReembedJob(_request(other_model))).reembed_job
        await asyncio.to_thread(processes.memory.wait_until_dead)
        monkeypatch.delenv("SELM_FAILPOINTS")
        await asyncio.to_thread(processes.memory.start)
        late = Memory(type=MEMORY_TYPE_CORRECTION, question="Who runs Quay Zorn?", text="Ada Velt")
        await memories.CreateMemory(pb.CreateMemoryRequest(parent=USER, memory=late))
        ended = await _ended(stub, job.name)
        found = [
            (await memories.SearchMemories(pb.SearchMemoriesRequest(parent=USER, query=query))).hits
            for query in (_question(3) + " Please!", "Who runs Quay Zorn?")
        ]

    assert ended.state == ReembedJob.STATE_SUCCEEDED, ended
    assert [hits[0].memory.text for hits in found if hits] == ["HC-3", "Ada Velt"]


async def test_a_job_that_cannot_be_done_says_why(
    own_memory: RunningMemory, other_model: str
) -> None:
    """An unknown model fails, a cancelled job ends; memory stays where it was."""
    memory = own_memory
    stub = memory.admin
    await memory.create("What is the moon of Kessel Prime?", "Orrin")
    failing = (await stub.CreateReembedJob(_request("/nowhere/at/all"))).reembed_job
    failed = await _ended(stub, failing.name)
    cancelling = (await stub.CreateReembedJob(_request(other_model))).reembed_job
    cancelled = await stub.CancelReembedJob(admin_pb.CancelReembedJobRequest(name=cancelling.name))
    listed = await stub.ListReembedJobs(admin_pb.ListReembedJobsRequest(page_size=1))
    rest = await stub.ListReembedJobs(
        admin_pb.ListReembedJobsRequest(page_size=1, page_token=listed.next_page_token)
    )
    found = await memory.search("Which moon does Kessel Prime have?")

    assert failed.state == ReembedJob.STATE_FAILED
    assert "/nowhere/at/all" in failed.failure.message
    assert cancelled.reembed_job.state == ReembedJob.STATE_CANCELLED
    assert [job.name for job in listed.reembed_jobs] == [cancelling.name]
    assert [job.name for job in rest.reembed_jobs] == [failing.name]
    assert found.hits[0].memory.text == "Orrin"
