"""What memory says and how it shapes answers, over the real wire with a scripted memory service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from selm.api.adapter.v1 import adapter_pb2
from selm.api.inference.v1 import generation_pb2, input_pb2
from selm.api.memory.v1 import (
    memory_pb2,
    memory_service_pb2,
    memory_service_pb2_grpc,
    search_pb2,
)
from selm.bus import Bus
from selm.errors import SelmError, from_rpc_error, to_status
from selm.testing import eventually, free_port
from tests.integration.inference.support import Registry, sampling, wire_revision
from tests.model_fixtures import pack_constant_adapter

Decision = search_pb2.ScopeDecision


class ScriptedMemory(memory_service_pb2_grpc.MemoryServiceServicer):
    """Answers every search with the same hits, after a delay or an error."""

    def __init__(self) -> None:
        self.hits: list[search_pb2.MemoryHit] = []
        self.requests: list[memory_service_pb2.SearchMemoriesRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.delay_s = 0.0
        # Raised for searches that carry a consistency token.
        self.error: SelmError | None = None

    async def SearchMemories(self, request, context):
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        await asyncio.sleep(self.delay_s)
        if self.error is not None and request.consistency_token:
            status = to_status(self.error, "test")
            details = (("grpc-status-details-bin", status.SerializeToString()),)
            await context.abort(self.error.code, self.error.message, details)
        return memory_service_pb2.SearchMemoriesResponse(hits=self.hits)


@asynccontextmanager
async def running_memory() -> AsyncIterator[tuple[ScriptedMemory, str]]:
    server, memory, port = grpc.aio.server(), ScriptedMemory(), free_port()
    memory_service_pb2_grpc.add_MemoryServiceServicer_to_server(memory, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield memory, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def hit(
    reason: int = Decision.REASON_EXACT_KEY,
    verdict: int = Decision.VERDICT_IN_SCOPE,
    state: int = memory_pb2.Memory.STATE_ACTIVE,
    lesson: str = "lessons/one",
    text: str = "Zorvane",
    name: str = "m1",
    cosine: float | None = None,
) -> search_pb2.MemoryHit:
    memory = memory_pb2.Memory(
        name=f"users/anonymous/memories/{name}",
        type=memory_pb2.MEMORY_TYPE_CORRECTION,
        text=text,
        question="What is the capital of Veld?",
        state=state,
        lesson=lesson,
    )
    memory.create_time.FromDatetime(datetime.now(UTC) - timedelta(days=1))
    return search_pb2.MemoryHit(
        memory=memory,
        score=0.9,
        scope=Decision(verdict=verdict, reason=reason),
        scores=search_pb2.MemoryScores(dense=cosine),
    )


def with_timeout(seconds: float, **fields: object) -> input_pb2.MemoryOptions:
    timeout = Duration()
    timeout.FromNanoseconds(int(seconds * 1e9))
    return input_pb2.MemoryOptions(timeout=timeout, **fields)


# Generous, so that a busy machine does not turn READY into DEGRADED.
READY = {"memory_options": with_timeout(5)}


async def test_exact_key_is_the_answer_itself(start_service, nats_url: str) -> None:
    """DIRECT_ANSWER: the stored text, no token computed, memory listed as used."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
    ):
        memory.hits = [hit()]
        generation = await service.generate("What is the capital of Veld?", **READY)

    candidate = generation.candidates[0]
    assert (candidate.text, candidate.output_tokens) == ("Zorvane", 0)
    assert candidate.finish_reason == generation_pb2.FINISH_REASON_DIRECT_ANSWER
    assert generation.memory_state == generation_pb2.MEMORY_STATE_READY
    assert generation.memories[0].use == memory_pb2.MEMORY_USE_DIRECT
    assert generation.resolution.lesson == "lessons/one"
    request = memory.requests[0]
    assert (request.parent, request.query) == ("users/anonymous", "What is the capital of Veld?")
    assert list(request.filter.states) == [
        memory_pb2.Memory.STATE_ACTIVE,
        memory_pb2.Memory.STATE_RETIRED,
    ]
    assert memory.metadata[0]["x-selm-tenant"] == service.tenant
    assert memory.metadata[0]["x-request-id"]


async def test_similar_question_gets_the_fact_and_a_lead(start_service, nats_url: str) -> None:
    """PREFILL: the reply begins with the lead and the prompt has grown by the memory."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
    ):
        memory.hits = [hit(Decision.REASON_SIMILAR)]
        generation = await service.generate("capital of veld", sampling_params=sampling(3), **READY)

    assert generation.candidates[0].text.startswith("The answer is")
    assert generation.memories[0].use == memory_pb2.MEMORY_USE_PREFILL
    assert generation.usage.memory_tokens > 10
    assert generation.usage.output_tokens == 3


async def test_a_related_correction_is_told_without_a_lead(start_service, nats_url: str) -> None:
    """CONTEXT: the prompt has grown by the memory, and the reply is the model's from its start."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
    ):
        memory.hits = [hit(Decision.REASON_RELATED)]
        generation = await service.generate("mayor of veld", sampling_params=sampling(3), **READY)

    assert not generation.candidates[0].text.startswith("The answer is")
    assert generation.memories[0].use == memory_pb2.MEMORY_USE_CONTEXT
    assert generation.memories[0].scope.reason == Decision.REASON_RELATED
    assert generation.usage.memory_tokens > 10


@pytest.mark.parametrize(
    "found",
    [
        hit(verdict=Decision.VERDICT_OUT_OF_SCOPE, reason=Decision.REASON_ENTITY_MISSING),
        hit(verdict=Decision.VERDICT_ABSTAIN, reason=Decision.REASON_AMBIGUOUS),
        hit(state=memory_pb2.Memory.STATE_RETIRED),
        hit(Decision.REASON_SIMILAR, text="word " * 1000),
    ],
)
async def test_memory_that_does_not_apply_is_listed_but_not_used(
    start_service, nats_url: str, found: search_pb2.MemoryHit
) -> None:
    """Out of scope, ambiguous, retired or too long: the prompt is the caller's own."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
    ):
        memory.hits = [found]
        generation = await service.generate(sampling_params=sampling(3), **READY)

    assert generation.memories[0].use == memory_pb2.MEMORY_USE_NONE
    assert generation.usage.memory_tokens == 0
    assert generation.memory_state == generation_pb2.MEMORY_STATE_READY


@pytest.mark.parametrize(
    ("operators", "requests", "cosine", "expected"),
    [
        (None, None, 0.99, memory_pb2.MEMORY_USE_PREFILL),
        (None, 0.95, 0.95, memory_pb2.MEMORY_USE_DIRECT),
        (None, 0.95, 0.94, memory_pb2.MEMORY_USE_PREFILL),
        # The score ranks within one reply; it is no cosine.
        (None, 0.5, None, memory_pb2.MEMORY_USE_PREFILL),
        (0.95, None, 0.95, memory_pb2.MEMORY_USE_DIRECT),
        (0.95, 1.0, 0.95, memory_pb2.MEMORY_USE_PREFILL),
    ],
)
async def test_nearly_the_same_question_is_answered_directly_on_request(
    start_service,
    nats_url: str,
    operators: float | None,
    requests: float | None,
    cosine: float | None,
    expected: int,
) -> None:
    """Opt-in of operator or caller, the caller's going first; the reply says what was used."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target, direct_similarity=operators) as service,
    ):
        memory.hits = [hit(Decision.REASON_SIMILAR, cosine=cosine)]
        options = with_timeout(5, direct_similarity=requests)
        generation = await service.generate(
            "capital of veld", sampling_params=sampling(2), memory_options=options
        )

    assert generation.memories[0].use == expected
    is_direct = expected == memory_pb2.MEMORY_USE_DIRECT
    assert (generation.candidates[0].text == "Zorvane") is is_direct
    assert memory.requests[0].explain is (operators is not None or requests is not None)


async def test_more_memories_are_used_on_request(start_service, nats_url: str) -> None:
    """The best one leads, further ones in scope are context, those over the budget are not used."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
    ):
        memory.hits = [
            hit(Decision.REASON_SIMILAR),
            hit(Decision.REASON_SIMILAR, name="m2"),
            hit(Decision.REASON_SIMILAR, name="m3", text="word " * 300),
        ]
        uses, tokens = [], []
        for fields in ({}, {"max_memories": 4}, {"max_memories": 4, "max_context_tokens": 1000}):
            generation = await service.generate(
                sampling_params=sampling(2), memory_options=with_timeout(5, **fields)
            )
            uses.append([memory.use for memory in generation.memories])
            tokens.append(generation.usage.memory_tokens)

    none, context = memory_pb2.MEMORY_USE_NONE, memory_pb2.MEMORY_USE_CONTEXT
    prefill = memory_pb2.MEMORY_USE_PREFILL
    assert uses == [[prefill, none, none], [prefill, context, none], [prefill, context, context]]
    assert tokens == sorted(tokens)
    assert memory.requests[-1].max_results == 4


async def test_slow_memory_is_left_behind(start_service, nats_url: str) -> None:
    """Over its budget: DEGRADED, and the answer does not wait."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
    ):
        memory.hits, memory.delay_s = [hit()], 30
        generation = await service.generate(
            sampling_params=sampling(3), memory_options=with_timeout(0.05)
        )

    assert generation.memory_state == generation_pb2.MEMORY_STATE_DEGRADED
    assert generation.candidates[0].output_tokens == 3


async def test_lagging_memory_answers_stale(start_service, nats_url: str) -> None:
    """The token is not reached in time: what memory has is used, and the reply says STALE."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
    ):
        memory.hits = [hit()]
        memory.error = SelmError("CONSISTENCY_NOT_REACHED", "behind")
        options = with_timeout(5, consistency_token="t")
        generation = await service.generate(memory_options=options)

    assert generation.memory_state == generation_pb2.MEMORY_STATE_STALE
    assert generation.candidates[0].text == "Zorvane"


async def test_forged_token_is_the_callers_fault(start_service, nats_url: str) -> None:
    """CURSOR_INVALID reaches the caller instead of a degraded answer."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
    ):
        memory.error = SelmError("CURSOR_INVALID", "altered")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.generate(memory_options=with_timeout(5, consistency_token="t"))

    assert from_rpc_error(refused.value).reason == "CURSOR_INVALID"


async def test_scoped_adapter_follows_the_gate(
    start_service: Callable, nats_url: str, tiny_model, tmp_path
) -> None:
    """With memory off the gate still decides: held lesson, foreign lesson, nothing in scope."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
        Bus.open(service.shared, "test") as bus,
    ):
        await bus.ready()
        registry = Registry(bus, service.tenant)
        packed = pack_constant_adapter(tiny_model, 500, tmp_path / "packed")
        revision = wire_revision(packed, service.artifacts)
        await registry.move(revision, adapter_pb2.SCOPE_MODE_SCOPED)
        await eventually(lambda: registry.acknowledgement(service.shared.instance, revision.name))
        options = {
            "sampling_params": sampling(3),
            "memory_options": with_timeout(5, max_use=memory_pb2.MEMORY_USE_NONE),
        }
        found = {}
        for name, hits in {
            "held": [hit(state=memory_pb2.Memory.STATE_RETIRED)],
            "foreign": [hit(lesson="lessons/other")],
            "nothing": [],
        }.items():
            memory.hits = hits
            found[name] = (await service.generate(**options)).resolution

    reasons = {name: resolution.adapter_reason for name, resolution in found.items()}
    assert reasons == {
        "held": generation_pb2.ADAPTER_REASON_IN_SCOPE,
        "foreign": generation_pb2.ADAPTER_REASON_LESSON_NOT_HELD,
        "nothing": generation_pb2.ADAPTER_REASON_OUT_OF_SCOPE,
    }
    assert [found[name].adapter_applied for name in found] == [True, False, False]


@pytest.mark.parametrize("num_tokens", [1990, 0])
async def test_memory_that_leaves_no_room_is_left_out(
    start_service, nats_url: str, num_tokens: int
) -> None:
    """A request that fits by itself is answered without memory rather than CONTEXT_TOO_LONG."""
    asked = "capital of veld" if num_tokens else "word " * 1750
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
    ):
        memory.hits = [hit(Decision.REASON_SIMILAR)]
        options = {"sampling_params": sampling(num_tokens), **READY}
        call = service.stream(asked, **options)
        started = (await call.read()).started
        call.cancel()

    assert started.memories[0].use == memory_pb2.MEMORY_USE_NONE
    assert started.input_tokens > 10


async def test_only_lagging_memory_is_asked_again_and_within_the_budget(
    start_service, nats_url: str
) -> None:
    """One search after any other failure; a second one gets what is left of the time."""
    async with (
        running_memory() as (memory, target),
        start_service(nats_url, memory_target=target) as service,
    ):
        memory.error = SelmError("INTERNAL", "broken")
        options = with_timeout(5, consistency_token="t")
        broken = await service.generate(sampling_params=sampling(1), memory_options=options)
        num_searches = len(memory.requests)
        memory.error, memory.delay_s = SelmError("CONSISTENCY_NOT_REACHED", "behind"), 0.6
        options = with_timeout(1, consistency_token="t")
        late = await service.generate(sampling_params=sampling(1), memory_options=options)

    assert broken.memory_state == generation_pb2.MEMORY_STATE_DEGRADED
    assert num_searches == 1
    assert len(memory.requests) == 3
    # 0.6 s of 1 s were gone, and the second search takes 0.6 s as well.
    assert late.memory_state == generation_pb2.MEMORY_STATE_DEGRADED
    assert late.timings.recall_duration.ToMilliseconds() < 1500
