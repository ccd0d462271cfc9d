"""Counters: what was found, used, agreed with and corrected, as other services tell of it."""

import uuid
from datetime import UTC, datetime
from typing import Any

from selm import names, streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated
from selm.api.event.v1.inference_event_pb2 import GenerationFinished
from selm.api.feedback.v1 import feedback_event_pb2
from selm.api.inference.v1 import generation_pb2
from selm.api.memory.v1 import memory_pb2, search_pb2
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.testing import eventually
from tests.integration.memory.running import RunningMemory, running_memory

SIMILAR = search_pb2.ScopeDecision.REASON_SIMILAR
RELATED = search_pb2.ScopeDecision.REASON_RELATED
QUESTION = "Who is the mayor of Velmora?"
TIME = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


async def generate(
    memory: RunningMemory,
    name: str,
    text: str,
    *,
    stored: bool = True,
    use: int = 2,
    reason: "search_pb2.ScopeDecision.Reason.ValueType" = SIMILAR,
) -> str:
    """Publishes a finished generation that found a memory; its name."""
    identity = uuid.uuid4().hex
    generation = generation_pb2.Generation(
        name=names.generation_name(identity),
        memories=[
            generation_pb2.RecalledMemory(
                memory=name,
                use=use,  # type: ignore[arg-type]
                scope=search_pb2.ScopeDecision(reason=reason),
            )
        ],
        candidates=[generation_pb2.Candidate(text=text if stored else "")],
        content_stored=stored,
    )
    event = GenerationFinished(generation=generation, status_code="OK")
    event.event_time.FromDatetime(TIME)
    subject = streams.generation_finished(memory.tenant, identity)
    await memory.bus.publish(subject, event, message_id=identity)
    return generation.name


async def give(memory: RunningMemory, generation: str, **signal: Any) -> None:
    """Publishes feedback on a generation."""
    identity = uuid.uuid4().hex
    event = feedback_event_pb2.FeedbackEvent(
        name=names.feedback_event_name(identity),
        generation=generation,
        user="users/anonymous",
        state=feedback_event_pb2.FeedbackEvent.STATE_ACCEPTED,
        **signal,
    )
    event.create_time.GetCurrentTime()
    subject = streams.feedback_created(memory.tenant, event.user)
    message = FeedbackEventCreated(feedback_event=event)
    await memory.bus.publish(subject, message, message_id=event.name)


async def counters(memory: RunningMemory, name: str) -> memory_pb2.MemoryCounters:
    request = pb.GetMemoryRequest(name=name)
    found = await memory.stub.GetMemory(request, metadata=memory.metadata)
    return found.memory.counters


async def test_uses_and_opinions_are_counted(milvus_uri: str, nats_server: Any) -> None:
    """Neither the time of the last change nor the etag follows them."""
    async with running_memory(milvus_uri, nats_server.url, usage_flush_s=0.2) as memory:
        await memory.bus.ready()
        created = (await memory.create(QUESTION, "Odette Marsh")).memory
        name = created.name
        await memory.search(QUESTION)
        right = await generate(memory, name, "It is Odette Marsh.")
        wrong = await generate(memory, name, "It is Bram Holt.")
        silent = await generate(memory, name, "", stored=False)
        # Found, but of no influence.
        await generate(memory, name, "It is Bram Holt.", use=memory_pb2.MEMORY_USE_NONE)
        # The question may have been about something else.
        aside = await generate(memory, name, "It is large.", reason=RELATED)
        await give(memory, aside, thumbs=feedback_event_pb2.THUMBS_DOWN)
        await give(memory, right, thumbs=feedback_event_pb2.THUMBS_UP)
        await give(memory, right, thumbs=feedback_event_pb2.THUMBS_DOWN)
        await give(memory, wrong, thumbs=feedback_event_pb2.THUMBS_DOWN)
        await give(memory, silent, thumbs=feedback_event_pb2.THUMBS_UP)

        async def is_counted() -> memory_pb2.MemoryCounters | None:
            found = await counters(memory, name)
            wanted = (1, 4, 2, 2)
            numbers = (
                found.retrieved_count,
                found.injected_count,
                found.agreed_count,
                found.disagreed_count,
            )
            return found if numbers == wanted else None

        found = await eventually(is_counted)
        after = await memory.stub.GetMemory(
            pb.GetMemoryRequest(name=name), metadata=memory.metadata
        )

    assert found is not None
    assert found.last_use_time.ToDatetime(tzinfo=UTC) == TIME
    assert (created.update_time, created.etag) == (after.memory.update_time, after.memory.etag)


async def test_counts_outlive_a_stop(milvus_uri: str, nats_server: Any) -> None:
    """What was counted is written at the end of the process."""
    own = {"collection": f"c{uuid.uuid4().hex}", "tenant": "counted"}
    async with running_memory(milvus_uri, nats_server.url, **own) as memory:
        await memory.bus.ready()
        name = (await memory.create(QUESTION, "Odette Marsh")).memory.name
        for _ in range(3):
            await memory.search(QUESTION)

    async with running_memory(milvus_uri, nats_server.url, **own) as memory:
        found = await counters(memory, name)

    assert found.retrieved_count == 3
