"""Promises of the Python client: typed errors, safe repeats, streams and watches that hold."""

import json
import time
import uuid
from collections.abc import Iterator

import grpc
import pytest

from selm.api.feedback.v1 import feedback_event_pb2, feedback_service_pb2
from selm.api.inference.v1 import generation_pb2
from selm.api.memory.v1 import memory_pb2
from selm.api.trainer.v1 import training_job_pb2
from selm.client import SelmClient
from selm.client_answer import Ask, selector
from selm.client_channel import is_repeatable, service_config, services
from selm.errors import InvalidFields, SelmError
from tests.scripted_selm import RunningSelm, ScriptedSelm


@pytest.fixture
def running() -> Iterator[RunningSelm]:
    with RunningSelm(ScriptedSelm()) as selm:
        yield selm


def client(running: RunningSelm, **options: object) -> SelmClient:
    return SelmClient(**running.addresses, **options)  # type: ignore[arg-type]


async def test_chat_returns_text_and_what_answered(running: RunningSelm) -> None:
    """An answer carries the generation to correct and the reason the adapter took part or not."""
    async with client(running) as selm:
        answer = await selm.chat("What is the capital of Velmora?")

    assert answer.text == "I do not know that."
    assert answer.generation == "generations/g0"
    assert answer.resolution.adapter_reason == generation_pb2.ADAPTER_REASON_OUT_OF_SCOPE


async def test_stream_yields_pieces_and_ends_with_the_whole_answer(running: RunningSelm) -> None:
    """Pieces come one by one, and together they are the answer."""
    async with client(running) as selm:
        stream = selm.stream("What is the capital of Velmora?")
        pieces = [piece async for piece in stream]

    assert len(pieces) == 5
    assert stream.answer.text == "".join(pieces)
    assert stream.answer.finish_reason == generation_pb2.FINISH_REASON_STOP
    assert stream.first_text_time is not None


async def test_every_field_violation_arrives_typed(running: RunningSelm) -> None:
    """A bad request raises one error that lists all that is wrong with it."""
    async with client(running) as selm:
        with pytest.raises(InvalidFields) as caught:
            await selm.chat("", Ask(temperature=-1.0))

    assert [violation.field for violation in caught.value.violations] == [
        "input.chat.messages[0].text",
        "options.sampling_params.temperature",
    ]


async def test_errors_of_streams_are_typed_too(running: RunningSelm) -> None:
    """A watch of an unknown job raises the reason, as a unary call would."""
    async with client(running) as selm:
        with pytest.raises(SelmError) as caught:
            _ = [job async for job in selm.watch_job("trainingJobs/none")]

    assert caught.value.reason == "RESOURCE_NOT_FOUND"
    assert caught.value.code == grpc.StatusCode.NOT_FOUND


async def test_a_write_is_repeated_with_the_same_request_id(running: RunningSelm) -> None:
    """However often a correction has to be sent, it counts once."""
    running.script.failures["CreateFeedbackEvent"] = 7
    async with client(running) as selm:
        answer = await selm.chat("What is the capital of Velmora?")
        receipt = await selm.correct(answer.generation, "Zorvane")

    tries = running.script.seen("CreateFeedbackEvent")
    assert len(tries) == 8
    assert len({request.request_id for request in tries}) == 1
    assert uuid.UUID(tries[0].request_id).version == 4
    assert receipt.lesson == "lessons/l0"
    assert receipt.consistency_token == "t0"


async def test_stubs_fill_in_request_ids(running: RunningSelm) -> None:
    """Who uses a generated stub gets a request id too, and keeps its own message as it was."""
    async with client(running) as selm:
        answer = await selm.chat("What is the capital of Velmora?")
        event = feedback_event_pb2.FeedbackEvent(
            generation=answer.generation, thumbs=feedback_event_pb2.THUMBS_UP
        )
        request = feedback_service_pb2.CreateFeedbackEventRequest(feedback_event=event)
        await selm.feedback.service.CreateFeedbackEvent(request)
        await selm.feedback.service.CreateFeedbackEvent(request)

    ids = [seen.request_id for seen in running.script.seen("CreateFeedbackEvent")]
    assert request.request_id == ""
    assert len(set(ids)) == 2
    assert all(ids)


async def test_patience_ends(running: RunningSelm) -> None:
    """A service that stays away raises its error once patience is over."""
    running.script.failures["Generate"] = 1000
    async with client(running, patience_s=0.2) as selm:
        with pytest.raises(SelmError) as caught:
            await selm.chat("What is the capital of Velmora?")

    assert caught.value.reason == "DRAINING"
    assert selm.patience.num_repeats >= 1


async def test_patience_counts_what_grpc_repeats_by_itself(running: RunningSelm) -> None:
    """A call that gRPC sends five times is not sent five times more at each repeat, nor longer."""
    running.script.failures["CreateFeedbackEvent"] = 1000
    async with client(running, patience_s=3) as selm:
        begin = time.monotonic()
        with pytest.raises(SelmError):
            await selm.comment("conversations/c1", "Slow.")
        took_s = time.monotonic() - begin

    assert took_s < 3 + 1
    num_calls = selm.patience.num_repeats + 1
    assert len(running.script.seen("CreateFeedbackEvent")) == 5 + num_calls - 1


async def test_other_errors_are_not_repeated(running: RunningSelm) -> None:
    """A NOT_FOUND is answered at once, once."""
    async with client(running) as selm:
        with pytest.raises(SelmError):
            await selm.correct("generations/none", "Zorvane")

    assert len(running.script.seen("CreateFeedbackEvent")) == 1


async def test_a_stream_lost_before_its_first_text_is_opened_again(running: RunningSelm) -> None:
    """Nothing was shown yet, so the caller notices nothing."""
    running.script.failures["GenerateStream"] = 2
    async with client(running) as selm:
        answer = await selm.stream("What is the capital of Velmora?").whole()

    assert answer.text.strip() == "I do not know that."
    assert len(running.script.seen("GenerateStream")) == 3


async def test_a_stream_lost_after_its_first_text_raises(running: RunningSelm) -> None:
    """A repeat would be another generation, so the caller decides."""
    running.script.break_after_delta = 1
    async with client(running) as selm:
        stream = selm.stream("What is the capital of Velmora?")
        with pytest.raises(SelmError) as caught:
            await stream.whole()

    assert caught.value.code == grpc.StatusCode.UNAVAILABLE
    assert stream.answer.text == "I "
    assert len(running.script.seen("GenerateStream")) == 1


async def test_a_watch_goes_on_after_a_broken_connection(running: RunningSelm) -> None:
    """The watcher sees the job to its end though the server broke twice on the way."""
    running.script.failures["WatchTrainingJob"] = 1
    running.script.failures["WatchTrainingJob.frame"] = 1
    async with client(running) as selm:
        states = [job.state async for job in selm.watch_job("trainingJobs/j1")]

    assert states[-1] == training_job_pb2.TrainingJob.STATE_SUCCEEDED
    assert len(running.script.seen("WatchTrainingJob")) == 3


async def test_calls_carry_the_tenant(running: RunningSelm) -> None:
    """The tenant chosen once goes with every unary call and stream."""
    async with client(running, tenant="acme") as selm:
        await selm.chat("Hello?")
        await selm.stream("Hello?").whole()

    assert {meta["x-selm-tenant"] for _, _, meta in running.script.calls} == {"acme"}


async def test_rollback_without_a_revision_before_says_so(running: RunningSelm) -> None:
    """The reason arrives as the contract spells it."""
    async with client(running) as selm:
        with pytest.raises(SelmError) as caught:
            await selm.rollback()

    assert caught.value.reason == "NO_PREVIOUS_REVISION"


async def test_memory_options_reach_the_server(running: RunningSelm) -> None:
    """Memory off, the token and the time budget are sent as given."""
    ask = Ask(
        max_use=memory_pb2.MEMORY_USE_NONE, consistency_token="t9", memory_timeout_s=1.5, seed=7
    )
    async with client(running) as selm:
        await selm.chat("Hello?", ask)

    options = running.script.seen("Generate")[0].options
    assert options.memory_options.max_use == memory_pb2.MEMORY_USE_NONE
    assert options.memory_options.consistency_token == "t9"
    assert options.memory_options.timeout.ToMilliseconds() == 1500
    assert options.sampling_params.seed == 7
    assert not options.sampling_params.HasField("temperature")
    assert not options.HasField("adapter")


def test_only_reads_and_writes_with_request_id_are_repeated_by_grpc() -> None:
    """Generate is a new generation each time, so gRPC must never repeat it by itself."""
    config = json.loads(service_config())
    named = {f"{entry['service']}/{entry['method']}" for entry in config["methodConfig"][0]["name"]}
    writes = {
        method.full_name
        for service in services()
        for method in service.methods
        if not is_repeatable(method)
    }

    assert writes == {
        # Its items have ids of their own: the client's verb repeats those that need it.
        "selm.api.feedback.v1.FeedbackService.BatchCreateFeedbackEvents",
        "selm.api.inference.v1.InferenceService.Abort",
        "selm.api.inference.v1.InferenceService.Generate",
        "selm.api.inference.v1.InferenceService.GenerateStream",
        "selm.api.memory.v1.MemoryAdminService.ImportMemories",
    }
    assert "selm.api.feedback.v1.FeedbackService/CreateFeedbackEvent" in named
    assert "selm.api.inference.v1.InferenceService/GetModel" in named
    assert config["methodConfig"][0]["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("adapters/default", "adapter"),
        ("adapters/default/revisions/stable", "adapter_revision"),
        ("adapters/default/revisions/r0123456789abcdef", "adapter_revision"),
        ("ab" * 32, "sha256"),
        ("none", "base"),
    ],
)
def test_an_adapter_is_named_the_way_people_write_it(name: str, target: str) -> None:
    """Adapter, alias, revision, digest and the bare base model are told apart by their spelling."""
    chosen = selector(name)

    assert chosen is not None
    assert chosen.WhichOneof("target") == target
