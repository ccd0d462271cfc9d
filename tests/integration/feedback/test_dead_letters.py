"""What consumers gave up on: listed, sent out again exactly as it was, or given up for good."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from selm import streams
from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1.feedback_event_pb2 import FEEDBACK_KIND_CORRECTION
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.api.trainer.v1.training_job_pb2 import TrainingJob
from selm.errors import SelmError
from selm.testing import eventually
from tests.integration.feedback.learning_client import call, teach

OPEN, REPLAYED, DISCARDED = 1, 2, 3


class Memory:
    """What memory_svc's consumer sees of one tenant, and what it cannot handle."""

    def __init__(self, tenant: str, *, num_failures: int) -> None:
        self.tenant = tenant
        self.num_failures = num_failures
        self.seen: list[tuple[str, int, str, str]] = []

    async def __call__(self, delivery) -> None:
        if streams.tenant_of(delivery.subject) != self.tenant:
            return
        self.seen.append(
            (delivery.subject, delivery.sequence, delivery.message_id, delivery.message_type)
        )
        if self.num_failures:
            self.num_failures -= 1
            raise SelmError("INVALID_FIELD", "the question has no end")


@asynccontextmanager
async def consuming(bus, memory: Memory) -> AsyncIterator[None]:
    """The consumer of memory_svc, which gives up at the first failure."""
    filters = [streams.any_of("selm.feedback.created")]
    task = asyncio.create_task(
        bus.consume("FEEDBACK", "memory_remember", memory, subjects=filters, max_deliver=1)
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _letters(client, **fields):
    return list((await call(client, "ListDeadLetters", **fields)).dead_letters)


async def _replay(client, *names: str, request_id: str = "") -> int:
    reply = await call(client, "ReplayDeadLetters", names=names, request_id=request_id)
    return reply.replay_count


async def _discard(client, *names: str, reason: str = "useless", request_id: str = "") -> int:
    fields = {"names": names, "reason": reason, "request_id": request_id}
    return (await call(client, "DiscardDeadLetters", **fields)).discard_count


async def _correct(client, peers, number: int):
    generation = await peers.generate(question=f"What is the number of house {number}?")
    return (await client.correct(generation, f"It is {number}")).feedback_event


async def test_feedback_that_memory_gave_up_is_delivered_again_as_it_was(client, peers, bus):
    """Same subject, sequence and id, and the stream holds it once: nothing counts twice."""
    memory = Memory(peers.tenant, num_failures=1)
    async with consuming(bus, memory):
        event = await _correct(client, peers, 1)
        [letter] = await eventually(lambda: _letters(client))
        assert (letter.state, letter.stream, letter.consumer) == (
            OPEN,
            "FEEDBACK",
            "memory_remember",
        )
        assert letter.failure.reason == ErrorReason.ERROR_REASON_INVALID_FIELD
        assert letter.subject.startswith("selm.feedback.created.")
        assert peers.tenant not in letter.subject
        assert letter.message_type == "selm.api.event.v1.FeedbackEventCreated"
        assert letter.delivery_count == 1
        [stats] = await client.stats()
        assert (stats.kind, stats.dead_letter_count) == (FEEDBACK_KIND_CORRECTION, 1)
        assert await _replay(client, letter.name) == 1
        await eventually(lambda: _has_seen(memory, 2))
        # A letter that was sent out is settled: again does nothing.
        assert await _replay(client, letter.name) == 0
    assert memory.seen[0] == memory.seen[1]
    assert memory.seen[0][2] == event.name
    assert len(await peers.recorded()) == 1
    assert await _letters(client) == []
    [settled] = await _letters(client, states=[REPLAYED], stream="FEEDBACK")
    assert settled.name == letter.name
    assert (await client.stats())[0].dead_letter_count == 0


async def _has_seen(memory: Memory, count: int) -> bool:
    return len(memory.seen) >= count


async def test_what_fails_again_is_another_dead_letter(client, peers, bus):
    """And all open ones can be sent out at once; a repeated call counts what the first did."""
    memory = Memory(peers.tenant, num_failures=2)
    async with consuming(bus, memory):
        await _correct(client, peers, 1)
        [first] = await eventually(lambda: _letters(client))
        await _replay(client, first.name)
        [second] = await eventually(lambda: _letters(client))
        assert second.name != first.name
        assert (second.sequence, second.subject) == (first.sequence, first.subject)
        request_id = str(uuid.uuid4())
        assert await _replay(client, "deadLetters/-", request_id=request_id) == 1
        assert await _replay(client, "deadLetters/-", request_id=request_id) == 1
        await eventually(lambda: _has_seen(memory, 3))
        await asyncio.sleep(0.2)
    assert len(memory.seen) == 3
    assert await _letters(client) == []


async def test_a_discarded_correction_ends_its_lesson(client, peers, bus):
    """FAILED with the reason, which is kept; what is unknown is not found."""
    memory = Memory(peers.tenant, num_failures=1)
    async with consuming(bus, memory):
        event = await _correct(client, peers, 1)
        [letter] = await eventually(lambda: _letters(client))
        assert await _discard(client, letter.name, reason="spam") == 1
    await eventually(lambda: _is_lesson(client, event.lesson, Lesson.STATE_FAILED))
    lesson = await client.lesson(event.lesson)
    assert lesson.failure.message == "spam"
    [settled] = await _letters(client, states=[DISCARDED])
    assert settled.name == letter.name
    assert await _discard(client, letter.name) == 0
    assert await _replay(client, letter.name) == 0
    client.tenant = f"{client.tenant}-other"
    assert (await client.refusal(_replay(client, letter.name))).reason == "RESOURCE_NOT_FOUND"
    assert await _letters(client, states=[DISCARDED]) == []


async def _is_lesson(client, name: str, state: int) -> bool:
    return (await client.lesson(name)).state == state


async def _give_up_training(client, peers) -> TrainingRequest:
    """A request that the trainers' consumer gave up, as Bus tells it."""
    await teach(client, peers, 1)
    request = await client.train()
    taken = await peers.bus.last("TRAINING", streams.training_requested(peers.tenant))
    await peers.take_request()
    identity = f"training-trainer_train-{taken.sequence}"
    await peers.bus.publish_raw(
        streams.dead_letter_created(peers.tenant, identity),
        taken.payload,
        message_id=f"{peers.tenant}-{identity}",
        headers={
            "Selm-Type": taken.message_type,
            "Selm-Dead-Stream": "TRAINING",
            "Selm-Dead-Consumer": "trainer_train",
            "Selm-Dead-Subject": taken.subject,
            "Selm-Dead-Sequence": str(taken.sequence),
            "Selm-Dead-Message-Id": taken.message_id,
            "Selm-Dead-Deliveries": "100",
            "Selm-Dead-Reason": "INTERNAL",
            "Selm-Dead-Message": "no handler survived this message",
        },
    )
    await eventually(lambda: _is_state(client, request, TrainingRequest.STATE_FAILED))
    return request


async def _is_state(client, request, state: int) -> bool:
    return (await client.training_request(request.name)).state == state


async def test_a_training_request_that_was_given_up_is_queued_again(client, peers):
    """It waits as before, in the queue once, and ends as its job ends."""
    request = await _give_up_training(client, peers)
    [letter] = await _letters(client, stream="TRAINING")
    assert await _replay(client, letter.name) == 1
    assert await _is_state(client, request, TrainingRequest.STATE_WAITING)
    assert await peers.num_queued() == 1
    assert (await peers.take_request()).name == request.name
    await peers.job(request, TrainingJob.STATE_SUCCEEDED)
    await eventually(lambda: _is_state(client, request, TrainingRequest.STATE_SUCCEEDED))


async def test_a_discarded_training_request_stays_failed_and_its_lessons_wait(client, peers):
    """The next request covers them."""
    request = await _give_up_training(client, peers)
    [letter] = await _letters(client)
    assert await _discard(client, letter.name) == 1
    assert await _is_state(client, request, TrainingRequest.STATE_FAILED)
    [stats] = await client.stats()
    assert (stats.waiting_requests, stats.dead_letter_count) == (0, 0)
    again = await client.train()
    assert (again.name != request.name, again.lesson_count) == (True, 1)


async def test_a_letter_whose_user_was_erased_is_not_sent_out(client, peers, bus):
    """Its copy is gone from the broker, and with it what there was to deliver."""
    memory = Memory(peers.tenant, num_failures=1)
    async with consuming(bus, memory):
        await _correct(client, peers, 1)
        [letter] = await eventually(lambda: _letters(client))
        subject = streams.dead_letter_created(peers.tenant, letter.name.partition("/")[2])
        await bus.connection.jetstream().purge_stream("DEAD_LETTERS", subject=subject)
        assert await _replay(client, "deadLetters/-") == 0
    assert await _letters(client) == []
    assert len(memory.seen) == 1


async def test_what_nobody_could_mean_is_refused(client):
    """All violations at once."""
    refused = await client.refusal(_discard(client, "nonsense", "deadLetters/-", reason=" "))
    assert set(refused.fields) == {"names[0]", "names[1]", "reason"}
    assert (await client.refusal(_replay(client))).fields == ["names"]
    refused = await client.refusal(_letters(client, stream="NONSENSE", states=[9], page_size=-1))
    assert set(refused.fields) == {"stream", "states", "page_size"}
    refused = await client.refusal(_again(client, 5, last=4, consumer="inference_svc"))
    assert set(refused.fields) == {"last_sequence", "consumer"}


async def _again(client, first: int, last: int = 0, consumer: str = "memory_svc") -> int:
    fields = {"first_sequence": first, "last_sequence": last, "consumer": consumer}
    return (await call(client, "ReplayFeedbackEvents", **fields)).replay_count


async def test_recorded_feedback_is_delivered_again_from_a_place_on(client, peers, bus):
    """To rebuild what memory lost: its own tenant's, in the bounds given."""
    memory = Memory(peers.tenant, num_failures=0)
    async with consuming(bus, memory):
        events = [await _correct(client, peers, number) for number in range(4)]
        await eventually(lambda: _has_seen(memory, 4))
        assert await _again(client, events[1].sequence, events[2].sequence) == 2
        await eventually(lambda: _has_seen(memory, 6))
        assert await _again(client, events[3].sequence) == 1
        await eventually(lambda: _has_seen(memory, 7))
    told = [name for _, _, name, _ in memory.seen]
    assert sorted(told[4:6]) == sorted([events[1].name, events[2].name])
    assert told[6] == events[3].name
    assert len(await peers.recorded()) == 4


@pytest.mark.parametrize(
    ("crash", "call_it", "state"),
    [
        ("feedback.after_replay", _replay, REPLAYED),
        ("feedback.after_give_up", _discard, DISCARDED),
    ],
)
async def test_a_letter_is_settled_once_whenever_the_process_dies(
    crash, call_it, state, child, client_of, nats_url, peers, bus, tenant
):
    """Before the decision is written it is OPEN, and the same call settles it."""
    memory, service = Memory(tenant, num_failures=1), child(nats_url)
    async with client_of(service.address, tenant) as client, consuming(bus, memory):
        await service.start(f"{crash}=exit(137)", training_paused="true")
        await client.wait_ready()
        await _correct(client, peers, 1)
        [letter] = await eventually(lambda: _letters(client))
        request_id = str(uuid.uuid4())
        refused = await client.refusal(call_it(client, letter.name, request_id=request_id))
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert await service.died() == 137
        await service.start(training_paused="true")
        await client.wait_ready()
        assert await call_it(client, letter.name, request_id=request_id) == 1
        [settled] = await _letters(client, states=[state])
        assert settled.name == letter.name
        if state == REPLAYED:
            await eventually(lambda: _has_seen(memory, 2))
            await asyncio.sleep(0.2)
            # Within the broker's window the second sending is the first.
            assert len(memory.seen) == 2
    assert len(await peers.recorded()) == 1
