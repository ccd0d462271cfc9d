"""Generate and GenerateStream over real gRPC: frames, errors, outages."""

import asyncio

import grpc
import pytest

from inference_svc.engine.scheduler import Scheduler
from selm.api.adapter.v1 import adapter_pb2
from selm.api.event.v1 import inference_event_pb2
from selm.api.inference.v1 import generation_pb2, inference_service_pb2, input_pb2
from selm.api.ops.v1 import server_service_pb2, server_service_pb2_grpc
from selm.bus import Bus
from selm.errors import InvalidFields, from_rpc_error
from selm.streams import generation_finished
from selm.testing import eventually
from tests.integration.inference.support import no_memory, request, rest, sampling


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return from_rpc_error(refused.value)


async def test_stream_is_started_deltas_finished(start_service, nats_url: str) -> None:
    """Exactly one Started, then text, exactly one Finished; the pieces are the unary answer."""
    async with start_service(nats_url) as service:
        options = {"sampling_params": sampling(8), "memory_options": no_memory()}
        frames = [frame async for frame in service.stream(**options)]
        whole = await service.generate(**options)
        model = (await service.inference.GetModel(inference_service_pb2.GetModelRequest())).model

    kinds = [frame.WhichOneof("event") for frame in frames]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert set(kinds[1:-1]) == {"delta"}
    started, finished = frames[0].started, frames[-1].finished
    assert "".join(f.delta.text for f in frames[1:-1]) == whole.candidates[0].text
    assert finished.finish_reasons == [generation_pb2.FINISH_REASON_MAX_TOKENS]
    assert (finished.usage.output_tokens, finished.usage.input_tokens) == (8, started.input_tokens)
    assert started.memory_state == generation_pb2.MEMORY_STATE_OFF
    assert started.resolution.base_sha256 == model.sha256
    assert started.resolution.adapter_reason == generation_pb2.ADAPTER_REASON_NOTHING_PROMOTED
    assert (model.name, model.context_length) == ("models/tiny-llama", 2048)
    assert model.target_modules[:2] == ["q_proj", "k_proj"]


async def test_memory_down_is_said_and_answered_without(start_service, nats_url: str) -> None:
    """No memory service: the answer comes, memory_state says DEGRADED."""
    async with start_service(nats_url) as service:
        generation = await service.generate(sampling_params=sampling(4))

    assert generation.memory_state == generation_pb2.MEMORY_STATE_DEGRADED
    assert generation.candidates[0].output_tokens == 4


async def test_bad_requests_say_everything_that_is_wrong(start_service, nats_url: str) -> None:
    """INVALID_FIELD lists all fields; unknown adapters are never the base model."""
    async with start_service(nats_url) as service:
        bad = request("", sampling_params=input_pb2.SamplingParams(temperature=-1, top_p=2))
        invalid = await refusal(service.inference.Generate(bad))
        unknown = await refusal(
            service.generate(adapter=input_pb2.AdapterSelector(adapter="adapters/nobody"))
        )
        digest = await refusal(service.generate(adapter=input_pb2.AdapterSelector(sha256="0" * 64)))
        long = await refusal(service.generate("word " * 3000))

    assert isinstance(invalid, InvalidFields)
    assert [v.field for v in invalid.violations] == [
        "input.chat.messages[0].text",
        "options.sampling_params.temperature",
        "options.sampling_params.top_p",
    ]
    assert (unknown.reason, digest.reason) == ("ADAPTER_NOT_FOUND", "ADAPTER_NOT_FOUND")
    assert long.reason == "CONTEXT_TOO_LONG"
    assert long.metadata["context_length"] == "2048"


async def test_finished_generation_is_published_with_its_content(
    start_service, nats_url: str
) -> None:
    """GENERATIONS holds what feedback needs; store=false keeps names and numbers only."""
    async with start_service(nats_url) as service, Bus.open(service.shared, "test") as bus:
        options = {"sampling_params": sampling(4), "memory_options": no_memory()}
        kept = await service.generate("hello", **options)
        dropped = await service.generate("hello", store=False, **options)

        async def stored(generation):
            generation_id = generation.name.removeprefix("generations/")
            return await bus.last("GENERATIONS", generation_finished(service.tenant, generation_id))

        await bus.ready()
        first = (await eventually(lambda: stored(kept))).parse(
            inference_event_pb2.GenerationFinished
        )
        second = (await eventually(lambda: stored(dropped))).parse(
            inference_event_pb2.GenerationFinished
        )

    assert first.status_code == "OK"
    assert first.generation.input.chat.messages[0].text == "hello"
    assert first.generation.candidates[0].text == kept.candidates[0].text
    assert not second.generation.HasField("input")
    assert second.generation.candidates[0].text == ""
    assert second.generation.candidates[0].output_tokens == 4


async def test_abort_ends_the_stream_and_says_so(start_service, nats_url: str) -> None:
    """The stream ends ABORTED_BY_CALLER; a second Abort is OK and false."""
    async with start_service(nats_url) as service:
        call = service.stream(sampling_params=sampling(1500), memory_options=no_memory())
        started = (await call.read()).started
        abort = inference_service_pb2.AbortRequest(generation=started.generation)
        first = await service.inference.Abort(abort, metadata=service.metadata)

        ended = await refusal(rest(call))
        second = await service.inference.Abort(abort, metadata=service.metadata)

    assert (first.aborted, second.aborted) == (True, False)
    assert ended.reason == "ABORTED_BY_CALLER"


async def test_abort_reaches_another_replica(start_service, nats_url: str) -> None:
    """A replica that does not run the generation tells the others over the bus."""
    async with (
        start_service(nats_url) as one,
        start_service(nats_url, instance="replica-2") as other,
    ):
        call = one.stream(sampling_params=sampling(1900), memory_options=no_memory())
        started = (await call.read()).started
        abort = inference_service_pb2.AbortRequest(generation=started.generation)

        draining = asyncio.create_task(refusal(rest(call)))

        async def ended():
            await other.inference.Abort(abort, metadata=one.metadata)
            return draining.done()

        await eventually(ended)

    assert draining.result().reason == "ABORTED_BY_CALLER"


async def test_cancelled_call_frees_its_row(start_service, nats_url: str) -> None:
    """With a single row, the next caller is served as soon as the first one left."""
    async with start_service(nats_url, max_running=1) as service:
        call = service.stream(sampling_params=sampling(1900), memory_options=no_memory())
        await call.read()
        call.cancel()
        generation = await service.generate(sampling_params=sampling(3), memory_options=no_memory())

    assert generation.candidates[0].output_tokens == 3


async def test_starts_and_answers_without_a_broker(start_service, free_port: int) -> None:
    """No NATS at all: the service is ready and answers; what it cannot look up is UNAVAILABLE."""
    async with start_service(f"nats://127.0.0.1:{free_port}") as service:
        serving = await service.is_serving()
        generation = await service.generate(sampling_params=sampling(3), memory_options=no_memory())
        selector = input_pb2.AdapterSelector(
            adapter_revision="adapters/abc/revisions/r0123456789abcdef",
            scope_mode=adapter_pb2.SCOPE_MODE_ALWAYS,
        )
        unknown = await refusal(service.generate(adapter=selector))
        alias = await refusal(
            service.generate(adapter=input_pb2.AdapterSelector(adapter="adapters/abc"))
        )
        probe = server_service_pb2_grpc.ServerServiceStub(service.channel)
        request = server_service_pb2.GetServerInfoRequest()
        info = (await probe.GetServerInfo(request)).server_info

    assert serving
    assert alias.reason == "BUS_UNAVAILABLE"
    assert "registry not read yet" in str(info)
    assert generation.candidates[0].output_tokens == 3
    assert unknown.reason == "BUS_UNAVAILABLE"


async def test_dead_engine_ends_the_process(start_service, nats_url: str, monkeypatch) -> None:
    """The caller learns INTERNAL, and the server ends with an error for its supervisor to see."""

    def broken(self: Scheduler) -> None:
        raise ValueError("broken")

    with pytest.raises(ExceptionGroup) as ended:
        async with start_service(nats_url) as service:
            monkeypatch.setattr(Scheduler, "next_prefill", broken)
            failed = await refusal(service.generate(sampling_params=sampling(3)))

    assert failed.reason == "INTERNAL"
    assert ended.group_contains(RuntimeError, match="engine")
