"""The trainer's RPCs over a real socket: what callers get, and how their mistakes are answered."""

import asyncio
import uuid
from contextlib import asynccontextmanager

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from selm.api.adapter.v1 import adapter_pb2, adapter_revision_pb2
from selm.api.adapter.v1 import adapter_service_pb2 as adapters
from selm.api.adapter.v1.adapter_service_pb2_grpc import AdapterServiceStub
from selm.api.trainer.v1 import evaluation_pb2, training_job_pb2
from selm.api.trainer.v1 import evaluation_service_pb2 as evaluations
from selm.api.trainer.v1 import trainer_service_pb2 as trainer
from selm.api.trainer.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from selm.api.trainer.v1.trainer_service_pb2_grpc import TrainerServiceStub
from selm.server import serve
from selm.testing import eventually, free_port
from trainer_svc.app import build

Job = training_job_pb2.TrainingJob


class Caller:
    """Stubs of the three services."""

    def __init__(self, channel) -> None:
        self.trainer = TrainerServiceStub(channel)
        self.adapters = AdapterServiceStub(channel)
        self.evaluations = EvaluationServiceStub(channel)


@asynccontextmanager
async def caller(settings):
    """A served trainer, and a client of it."""
    settings = settings.model_copy(update={"port": free_port(), "metrics_port": free_port()})
    ready, stop = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(serve("trainer", settings, build, ready=ready, stop=stop))
    await asyncio.wait({serving, asyncio.create_task(ready.wait())}, return_when="FIRST_COMPLETED")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.port}") as channel:
        found = Caller(channel)
        await eventually(lambda: is_connected(found))
        yield found
    stop.set()
    await serving


async def is_connected(call: Caller) -> bool:
    """The server has reached the bus; it answers UNAVAILABLE before."""
    try:
        await call.adapters.ListAdapters(adapters.ListAdaptersRequest())
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        return False
    return True


@pytest.fixture
async def two_rounds(bench):
    """Two promoted revisions, oldest first."""
    jobs = []
    async with bench.working():
        for fact in (("What colour is Vano?", "teal"), ("Who leads Orru?", "Mira Tol")):
            request_id = await bench.request(await bench.teach(fact))
            jobs.append(await bench.job("SUCCEEDED", request_id=request_id))
    return jobs


def reason_of(error: grpc.aio.AioRpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    for detail in rpc_status.from_call(error).details:
        detail.Unpack(info)
    return info.reason


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    found = error_details_pb2.BadRequest()
    for detail in rpc_status.from_call(error).details:
        detail.Unpack(found)
    return [violation.field for violation in found.field_violations]


async def test_everything_about_a_revision_can_be_read(bench, settings, two_rounds) -> None:
    """Job, evaluation, adapter and revision by id, alias and digest name each other."""
    newest = two_rounds[-1]
    name = f"adapters/default/revisions/{newest.output_revision_id}"
    async with caller(settings) as call:
        request = trainer.GetTrainingJobRequest(name=f"trainingJobs/{newest.job_id}")
        job = (await call.trainer.GetTrainingJob(request)).training_job
        get = evaluations.GetEvaluationRequest(name=job.evaluation)
        evaluation = (await call.evaluations.GetEvaluation(get)).evaluation
        get = adapters.GetAdapterRequest(name="adapters/default")
        adapter = (await call.adapters.GetAdapter(get)).adapter
        sha256 = adapter.aliases[0].sha256
        found = [
            (
                await call.adapters.GetAdapterRevision(
                    adapters.GetAdapterRevisionRequest(name=f"adapters/default/revisions/{last}")
                )
            ).adapter_revision
            for last in (newest.output_revision_id, "stable", f"sha256:{sha256}")
        ]

    assert job.state == Job.STATE_SUCCEEDED
    assert (job.output_revision, job.start) == (name, Job.START_BASE)
    assert job.config.hyperparameters.learning_rate == 0.004
    assert job.attempts[0].peak_memory_bytes > 0
    assert evaluation.verdict == evaluation_pb2.VERDICT_PROMOTE
    assert evaluation.slices[0].slice == evaluation_pb2.SLICE_EFFICACY
    assert evaluation.adapter_revision == name
    assert adapter.aliases[0].adapter_revision == name
    assert [revision.name for revision in found] == [name] * 3
    assert list(found[0].alias_ids) == ["stable"]
    assert found[0].manifest.training_job == job.name
    assert found[0].manifest.dataset == job.dataset


async def test_lists_come_in_pages_that_fit_together(bench, settings, two_rounds) -> None:
    """Newest first; a token of another query is refused."""
    async with caller(settings) as call:
        first = await call.adapters.ListAdapterRevisions(
            adapters.ListAdapterRevisionsRequest(parent="adapters/-", page_size=1)
        )
        second = await call.adapters.ListAdapterRevisions(
            adapters.ListAdapterRevisionsRequest(
                parent="adapters/-", page_size=1, page_token=first.next_page_token
            )
        )
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.trainer.ListTrainingJobs(
                trainer.ListTrainingJobsRequest(page_token=first.next_page_token)
            )
        rejected = await call.adapters.ListAdapterRevisions(
            adapters.ListAdapterRevisionsRequest(
                parent="adapters/default",
                states=[adapter_revision_pb2.AdapterRevision.STATE_REJECTED],
            )
        )
        jobs = await call.trainer.ListTrainingJobs(
            trainer.ListTrainingJobsRequest(
                adapter="adapters/default", states=[Job.STATE_SUCCEEDED]
            )
        )
        listed = await call.adapters.ListAdapters(adapters.ListAdaptersRequest())

    names = [f"adapters/default/revisions/{job.output_revision_id}" for job in two_rounds]
    pages = [first.adapter_revisions[0].name, second.adapter_revisions[0].name]
    assert pages == names[::-1]
    assert second.next_page_token == ""
    assert reason_of(error.value) == "CURSOR_INVALID"
    assert list(rejected.adapter_revisions) == []
    assert [job.name.split("/")[1] for job in jobs.training_jobs] == [
        job.job_id for job in two_rounds[::-1]
    ]
    assert [adapter.name for adapter in listed.adapters] == ["adapters/default"]


async def test_a_rollback_is_one_call_and_a_repeat_of_it_is_the_same_call(
    bench, settings, two_rounds
) -> None:
    """A lost compare-and-set moves nothing; a repeat under the request id answers the same."""
    first, second = (f"adapters/default/revisions/{job.output_revision_id}" for job in two_rounds)
    request = adapters.RollbackAdapterRequest(
        name="adapters/default", expected_revision=second, request_id=str(uuid.uuid4())
    )
    async with caller(settings) as call:
        alias = (await call.adapters.RollbackAdapter(request)).alias
        again = (await call.adapters.RollbackAdapter(request)).alias
        stale = adapters.RollbackAdapterRequest(name="adapters/default", expected_revision=second)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.adapters.RollbackAdapter(stale)
        forward = await call.adapters.AliasAdapterRevision(
            adapters.AliasAdapterRevisionRequest(
                name=second, alias_id="stable", scope_mode=adapter_pb2.SCOPE_MODE_ALWAYS
            )
        )
        copied = await call.adapters.AliasAdapterRevision(
            adapters.AliasAdapterRevisionRequest(
                name="adapters/default/revisions/stable", alias_id="candidate"
            )
        )

    assert (alias.adapter_revision, alias.previous_revision, alias.epoch) == (first, second, 3)
    assert again == alias
    assert error.value.code() == grpc.StatusCode.ABORTED
    assert reason_of(error.value) == "STALE_REVISION"
    assert forward.alias.scope_mode == adapter_pb2.SCOPE_MODE_ALWAYS
    assert (forward.alias.adapter_revision, forward.alias.epoch) == (second, 4)
    assert (copied.alias.adapter_revision, copied.alias.epoch) == (second, 1)
    assert (await bench.announced()).alias.epoch == 4


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("GetAdapter", adapters.GetAdapterRequest(name="adapters/absent"), "ADAPTER_NOT_FOUND"),
        (
            "GetAdapterRevision",
            adapters.GetAdapterRevisionRequest(name="adapters/default/revisions/r0123456789abcdef"),
            "ADAPTER_NOT_FOUND",
        ),
        (
            "GetAdapterRevision",
            adapters.GetAdapterRevisionRequest(name="adapters/default/revisions/stable"),
            "ADAPTER_NOT_FOUND",
        ),
        (
            "GetAdapterRevision",
            adapters.GetAdapterRevisionRequest(
                name=f"adapters/default/revisions/sha256:{'0' * 64}"
            ),
            "ADAPTER_NOT_FOUND",
        ),
        (
            "ListAdapterRevisions",
            adapters.ListAdapterRevisionsRequest(parent="adapters/absent"),
            "ADAPTER_NOT_FOUND",
        ),
        (
            "RollbackAdapter",
            adapters.RollbackAdapterRequest(name="adapters/default"),
            "NO_PREVIOUS_REVISION",
        ),
    ],
)
async def test_what_does_not_exist_is_said_to_not_exist(
    bench, settings, method, request_, reason
) -> None:
    """Never an empty answer, never another resource in its place."""
    async with caller(settings) as call:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await getattr(call.adapters, method)(request_)

    assert reason_of(error.value) == reason


async def test_every_violated_field_is_named_at_once(bench, settings) -> None:
    """A malformed move lists all that is wrong with it."""
    bad = adapters.AliasAdapterRevisionRequest(
        name="adapters/X",
        alias_id="Bad Alias",
        expected_revision="nonsense",
        scope_mode=17,
        reason="x" * 501,
        request_id="not-a-uuid",
    )
    async with caller(settings) as call:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.adapters.AliasAdapterRevision(bad)

    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(error.value) == [
        "name",
        "alias_id",
        "expected_revision",
        "scope_mode",
        "reason",
        "request_id",
    ]


async def test_another_tenant_sees_nothing_of_it(bench, settings, two_rounds) -> None:
    """A foreign job answers exactly as an absent one."""
    name = f"trainingJobs/{two_rounds[0].job_id}"
    async with caller(settings) as call:
        foreign = (("x-selm-tenant", "other"),)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.trainer.GetTrainingJob(
                trainer.GetTrainingJobRequest(name=name), metadata=foreign
            )
        listed = await call.trainer.ListTrainingJobs(
            trainer.ListTrainingJobsRequest(), metadata=foreign
        )

    assert reason_of(error.value) == "RESOURCE_NOT_FOUND"
    assert list(listed.training_jobs) == []


async def test_a_job_is_watched_and_cancelled_over_the_wire(bench, settings) -> None:
    """The stream begins with the present and ends by itself after CANCELLED."""
    await bench.request(await bench.teach(("Long (slow)?", "x")))
    states = []
    async with bench.working(), caller(settings) as call:
        job = await bench.job("TRAINING")
        name = f"trainingJobs/{job.job_id}"
        async for frame in call.trainer.WatchTrainingJob(
            trainer.WatchTrainingJobRequest(name=name)
        ):
            states.append(frame.training_job.state)
            if len(states) == 1:
                await call.trainer.CancelTrainingJob(trainer.CancelTrainingJobRequest(name=name))

    assert states[0] == Job.STATE_TRAINING
    assert states[-1] == Job.STATE_CANCELLED
