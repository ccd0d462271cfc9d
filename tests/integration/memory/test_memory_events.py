"""What memory_svc makes of FEEDBACK and LESSONS, on the real nats-server and Milvus Lite."""

import os
import time
from typing import Any

import grpc
import pytest

from selm import consistency, streams
from selm.api.memory.v1 import memory_pb2, search_pb2
from selm.errors import SelmError, from_rpc_error
from selm.lessons import LessonState
from selm.testing import eventually
from tests.integration.memory.running import RunningMemory, correction, running_memory

QUESTION = "Who is the mayor of Quillhaven?"
STATE = memory_pb2.Memory
REVISION = "adapters/default/revisions/r0123456789abcdef"


def token(sequence: int) -> str:
    return consistency.encode("FEEDBACK", sequence)


async def hit_of(memory: Any, query: str, **fields: Any) -> search_pb2.MemoryHit:
    states = [STATE.STATE_ACTIVE, STATE.STATE_RETIRED]
    fields.setdefault("filter", search_pb2.MemoryFilter(states=states))
    (hit, *_) = (await memory.search(query, **fields)).hits
    return hit


async def test_a_correction_is_remembered_before_its_token_is_answered(memory: Any) -> None:
    """A search with the token of a feedback sees that feedback; its lesson is REMEMBERED."""
    lesson, sequence = await memory.correct(QUESTION, "Odette Marsh")

    hit = await hit_of(memory, QUESTION, consistency_token=token(sequence))
    steps = await memory.wait_for_step(lesson, "REMEMBERED")

    assert ("Odette Marsh", lesson) == (hit.memory.text, hit.memory.lesson)
    assert hit.memory.visibility == memory_pb2.VISIBILITY_SHARED
    assert [("REMEMBERED", hit.memory.name)] == steps


async def test_memory_only_consent_stays_private(memory: Any) -> None:
    """Without consent to share, another user of the tenant does not recall it."""
    _, sequence = await memory.correct(QUESTION, "Odette Marsh", consent="MEMORY_ONLY")

    own = await memory.search(QUESTION, consistency_token=token(sequence))
    other = await memory.search(QUESTION, parent="users/bo")

    assert own.hits[0].memory.visibility == memory_pb2.VISIBILITY_PRIVATE
    assert list(other.hits) == []


async def test_a_second_correction_supersedes_the_first_and_says_so(memory: Any) -> None:
    """The newer answer lives, and the older lesson ends SUPERSEDED by the newer."""
    first, _ = await memory.correct(QUESTION, "Odette Marsh")
    second, sequence = await memory.correct("who is the mayor of quillhaven", "Bram Holt")

    hit = await hit_of(memory, QUESTION, consistency_token=token(sequence))
    steps = await memory.wait_for_step(first, "SUPERSEDED")

    assert hit.memory.text == "Bram Holt"
    assert ("SUPERSEDED", second) == steps[-1]


async def test_the_same_correction_again_moves_the_lesson_to_the_newer_event(memory: Any) -> None:
    """One memory, counted twice; the newer lesson carries on and the older ends."""
    first, _ = await memory.correct(QUESTION, "Odette Marsh")
    second, sequence = await memory.correct(QUESTION, "Odette Marsh")

    hit = await hit_of(memory, QUESTION, consistency_token=token(sequence))

    assert (second, 1) == (hit.memory.lesson, hit.memory.duplicate_count)
    assert ("SUPERSEDED", second) == (await memory.wait_for_step(first, "SUPERSEDED"))[-1]
    assert [("REMEMBERED", hit.memory.name)] == await memory.wait_for_step(second, "REMEMBERED")


async def test_an_event_delivered_again_changes_nothing(memory: Any) -> None:
    """The same feedback event twice in the stream is one memory and one REMEMBERED."""
    message = correction(QUESTION, "Odette Marsh")
    subject = streams.feedback_created(memory.tenant, "users/anonymous")
    await memory.bus.publish(subject, message, message_id="one")
    again = await memory.bus.publish(subject, message, message_id="two")
    assert not again.duplicate

    hit = await hit_of(memory, QUESTION, consistency_token=token(again.sequence))
    lesson = message.feedback_event.lesson

    assert hit.memory.duplicate_count == 0
    assert [("REMEMBERED", hit.memory.name)] == await memory.wait_for_step(lesson, "REMEMBERED")


async def test_ratings_advance_the_sequence_and_store_nothing(memory: Any) -> None:
    """A token of a rating is reached although there is nothing to remember."""
    message = correction(QUESTION, "x")
    message.feedback_event.ClearField("correction")
    message.feedback_event.rating.value = 5
    subject = streams.feedback_created(memory.tenant, "users/anonymous")
    ack = await memory.bus.publish(subject, message, message_id="rating")

    found = await memory.search(QUESTION, consistency_token=token(ack.sequence))

    assert found.empty_reason == search_pb2.EMPTY_REASON_NOTHING_STORED


async def test_a_token_of_the_future_is_answered_in_time(memory: Any) -> None:
    """The wait is bounded by two seconds and by the deadline of the call."""
    for timeout, at_most in ((20.0, 4.0), (1.0, 1.0)):
        start = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await memory.search(QUESTION, consistency_token=token(10_000), timeout=timeout)

        assert from_rpc_error(refused.value).reason == "CONSISTENCY_NOT_REACHED"
        assert time.monotonic() - start < at_most


async def test_a_verified_lesson_retires_its_memory_and_a_rollback_revives_it(memory: Any) -> None:
    """RETIRED still drives the gate; REMEMBERED written by the trainer makes it ACTIVE again."""
    lesson, sequence = await memory.correct(QUESTION, "Odette Marsh")
    await hit_of(memory, QUESTION, consistency_token=token(sequence))

    await memory.advance(LessonState.VERIFIED, lesson, resource=REVISION)
    steps = await memory.wait_for_step(lesson, "RETIRED")
    retired = await hit_of(memory, QUESTION)
    default = await memory.search(QUESTION)
    await memory.advance(LessonState.REMEMBERED, lesson)
    revived = await _state_becomes(memory, STATE.STATE_ACTIVE)

    assert ("RETIRED", retired.memory.name) == steps[-1]
    assert (
        retired.memory.state,
        retired.memory.retired_by_revision,
    ) == (STATE.STATE_RETIRED, REVISION)
    assert retired.scope.verdict == search_pb2.ScopeDecision.VERDICT_IN_SCOPE
    assert default.empty_reason == search_pb2.EMPTY_REASON_FILTERED_OUT
    assert revived.retired_by_revision == ""


async def test_a_correction_of_a_retired_memory_is_recalled_again(memory: Any) -> None:
    """Whoever repeats a correction was answered wrong again, so it is injected again."""
    lesson, sequence = await memory.correct(QUESTION, "Odette Marsh")
    await hit_of(memory, QUESTION, consistency_token=token(sequence))
    await memory.advance(LessonState.VERIFIED, lesson, resource=REVISION)
    await memory.wait_for_step(lesson, "RETIRED")

    again, sequence = await memory.correct(QUESTION, "Odette Marsh")
    hit = await hit_of(memory, QUESTION, consistency_token=token(sequence))

    assert (STATE.STATE_ACTIVE, again) == (hit.memory.state, hit.memory.lesson)


async def test_milvus_killed_is_unavailable_and_recovers_by_itself(
    milvus_server: Any, nats_server: Any
) -> None:
    """kill -9: STORE_UNAVAILABLE with RetryInfo; after its restart nothing acknowledged is lost,
    and what was corrected meanwhile is remembered."""
    async with running_memory(milvus_server.uri, nats_server.url) as memory:
        await memory.bus.ready()
        await memory.create("What is the capital of Velmora?", "Tashkeri")
        milvus_server.kill()

        async def refused() -> SelmError | None:
            try:
                await memory.search(QUESTION)
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error)
            return None  # the index answers for a second before it asks whether the store is there

        error = await eventually(refused)
        assert error is not None
        lesson, sequence = await memory.correct(QUESTION, "Odette Marsh")
        milvus_server.start()

        await memory.wait_for_step(lesson, "REMEMBERED")
        kept = await hit_of(memory, "What is the capital of Velmora?")
        new = await hit_of(memory, QUESTION, consistency_token=token(sequence))

    assert (error.reason, error.retry_after_s) == ("STORE_UNAVAILABLE", 1.0)
    assert [kept.memory.text, new.memory.text] == ["Tashkeri", "Odette Marsh"]


async def test_nats_killed_leaves_searches_alone_and_corrections_arrive_later(
    milvus_uri: str, nats_server: Any
) -> None:
    """Memory answers without the bus, and goes on where it was when the bus is back."""
    async with running_memory(milvus_uri, nats_server.url) as memory:
        await memory.bus.ready()
        await memory.create("What is the capital of Velmora?", "Tashkeri")
        nats_server.kill()
        kept = await hit_of(memory, "What is the capital of Velmora?")
        nats_server.start()
        await memory.bus.ready()
        lesson, _ = await _correct_until_stored(memory)
        await memory.wait_for_step(lesson, "REMEMBERED")

    assert kept.memory.text == "Tashkeri"


async def test_a_restart_forgets_nothing(milvus_uri: str, nats_server: Any) -> None:
    """A second process on the same collection knows the memories and how far it had applied."""
    kept = {"collection": f"c{os.urandom(8).hex()}", "tenant": "restart"}
    async with running_memory(milvus_uri, nats_server.url, **kept) as memory:
        await memory.bus.ready()
        # A token is waited for at most 2 s, and a cluster takes longer to open a collection.
        await memory.search(QUESTION)
        _, sequence = await memory.correct(QUESTION, "Odette Marsh")
        await hit_of(memory, QUESTION, consistency_token=token(sequence))
    async with running_memory(milvus_uri, nats_server.url, **kept) as memory:
        await memory.search(QUESTION)
        hit = await hit_of(memory, QUESTION, consistency_token=token(sequence))

    assert hit.memory.text == "Odette Marsh"


async def _state_becomes(memory: RunningMemory, state: int) -> memory_pb2.Memory:
    async def look() -> memory_pb2.Memory | None:
        found = (await hit_of(memory, QUESTION)).memory
        return found if found.state == state else None

    found = await eventually(look)
    assert found is not None
    return found


async def _correct_until_stored(memory: RunningMemory) -> tuple[str, int]:
    async def attempt() -> tuple[str, int] | None:
        if not memory.bus.is_connected:
            return None
        return await memory.correct(QUESTION, "Odette Marsh")

    found = await eventually(attempt)
    assert found is not None
    return found
