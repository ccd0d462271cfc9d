"""When an adapter learns by itself, and what becomes of a training request."""

import asyncio
import uuid
from datetime import timedelta

from selm import streams
from selm.api.error.v1.error_reason_pb2 import ErrorReason, Failure
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.api.trainer.v1.training_job_pb2 import TrainingJob
from selm.testing import eventually
from tests.integration.feedback.learning_client import (
    is_queued,
    is_request,
    teach,
    until,
)


async def test_enough_new_lessons_make_one_request(client_of, nats_url, peers, running, tenant):
    """The request covers them, they are QUEUED, and the trainers find one message."""
    settings = {"min_lessons": 3, "debounce_s": 0.3, "cooldown_s": 0}
    async with (
        running(nats_url, **settings) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        lessons = [await teach(client, peers, number) for number in range(3)]
        await until(client, lessons, Lesson.STATE_QUEUED)
        request = await client.training_request(
            (await client.lesson(lessons[0].name)).training_request
        )
        assert request.state == TrainingRequest.STATE_WAITING
        assert request.trigger == TrainingRequest.TRIGGER_COUNT
        assert (request.lesson_count, request.requester) == (3, "policy")
        await eventually(lambda: is_queued(peers, 1))
        # More lessons wait for the request to be taken: never two waiting ones.
        await asyncio.gather(*(teach(client, peers, number) for number in range(3, 7)))
        await asyncio.sleep(0.6)
        assert await peers.num_queued() == 1
        [stats] = await client.stats()
        assert (stats.waiting_lessons, stats.waiting_requests) == (4, 1)
        assert stats.oldest_age.ToTimedelta() > timedelta(0)


async def test_a_quiet_time_makes_a_request_of_what_there_is(
    client_of, nats_url, peers, running, tenant
):
    """One lesson is enough if no other comes."""
    async with (
        running(nats_url, idle_s=0.2, debounce_s=0.1, cooldown_s=0) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        lesson = await teach(client, peers, 1)
        await until(client, [lesson], Lesson.STATE_QUEUED)
        name = (await client.lesson(lesson.name)).training_request
        assert (await client.training_request(name)).trigger == TrainingRequest.TRIGGER_AGE


async def test_what_a_job_gave_back_waits_for_new_lessons(
    client_of, nats_url, peers, running, tenant
):
    """A refused round is not tried again by itself; a new lesson takes the old one along."""
    async with (
        running(nats_url, idle_s=0.1, debounce_s=0, cooldown_s=0) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        lesson = await teach(client, peers, 1)
        await eventually(lambda: is_queued(peers, 1))
        request = await peers.take_request()
        job = await peers.job(request, TrainingJob.STATE_REJECTED, failure=_gate_failed())
        await peers.step(lesson, "REMEMBERED", job, "trainer_svc")
        await until(client, [lesson], Lesson.STATE_REMEMBERED)
        refused = await client.training_request(request.name)
        assert refused.state == TrainingRequest.STATE_REJECTED
        assert refused.failure.reason == ErrorReason.ERROR_REASON_GATE_FAILED
        # Twenty looks of the policy.
        await asyncio.sleep(1)
        assert await peers.num_queued() == 0
        other = await teach(client, peers, 2)
        await eventually(lambda: is_queued(peers, 1))
        await until(client, [lesson, other], Lesson.STATE_QUEUED)
        assert (await peers.take_request()).lesson_count == 2


async def test_what_a_failed_job_gave_back_is_learned_when_somebody_asks(client, peers):
    """The reason lay outside, say a full disk: the lesson is tried again, and a third time."""
    lesson = await teach(client, peers, 1)
    for number in range(2):
        request = await client.train()
        assert request.lesson_count == 1
        await until(client, [lesson], Lesson.STATE_QUEUED)
        await peers.take_request()
        job = await peers.job(request, TrainingJob.STATE_FAILED, failure=_disk_full())
        await peers.step(lesson, "REMEMBERED", job, "trainer_svc")
        await until(client, [lesson], Lesson.STATE_REMEMBERED)
        await eventually(lambda one=request: is_request(client, one, TrainingRequest.STATE_FAILED))
        [stats] = await client.stats()
        assert (stats.waiting_lessons, stats.waiting_requests) == (1, 0), number
    again = await client.train()
    assert (again.lesson_count, again.state) == (1, TrainingRequest.STATE_WAITING)


def _disk_full() -> Failure:
    return Failure(message="no space left on device", retryable=True)


def _gate_failed() -> Failure:
    return Failure(reason=ErrorReason.ERROR_REASON_GATE_FAILED, message="forgot too much")


async def test_a_request_follows_its_job(client, peers):
    """WAITING until a job names it, RUNNING, then as the job ends; the lesson shows the job."""
    lesson = await teach(client, peers, 1)
    request = await client.train()
    await peers.take_request()
    job = await peers.job(request, TrainingJob.STATE_TRAINING)
    await eventually(lambda: is_request(client, request, TrainingRequest.STATE_RUNNING))
    assert (await client.training_request(request.name)).training_job == job
    assert (await client.lesson(lesson.name)).training_job == job
    # Everything is being learned already: the running request is the answer.
    assert (await client.train()).name == request.name
    [stats] = await client.stats("adapters/default")
    assert (stats.waiting_requests, stats.running_requests) == (0, 1)
    await peers.job(request, TrainingJob.STATE_FAILED)
    await eventually(lambda: is_request(client, request, TrainingRequest.STATE_FAILED))
    # Its lesson was left QUEUED; asking again covers it.
    assert (await client.train()).lesson_count == 1


async def test_a_request_the_trainers_gave_up_is_failed(client, peers):
    """A dead letter ends the request instead of leaving it WAITING for ever."""
    await teach(client, peers, 1)
    request = await client.train()
    taken = await peers.bus.last(streams.TRAINING.name, streams.training_requested(peers.tenant))
    await peers.bus.publish_raw(
        streams.dead_letter_created(peers.tenant, uuid.uuid4().hex),
        taken.payload,
        message_id=uuid.uuid4().hex,
        headers={"Selm-Dead-Stream": "TRAINING", "Selm-Dead-Deliveries": "10"},
    )
    await eventually(lambda: is_request(client, request, TrainingRequest.STATE_FAILED))
    failure = (await client.training_request(request.name)).failure
    assert failure.reason == ErrorReason.ERROR_REASON_ATTEMPTS_EXHAUSTED
    [stats] = await client.stats()
    assert stats.dead_letter_count == 1
    # Nobody gave its lesson back; asking again covers it.
    again = await client.train()
    assert (again.name != request.name, again.lesson_count) == (True, 1)


async def test_a_lesson_for_memory_alone_is_never_queued(client, peers):
    """Consent bounds what may be trained."""
    generation = await peers.generate()
    event = (await client.correct(generation, "Lutz", consent=1)).feedback_event
    lesson = await client.lesson(event.lesson)
    assert lesson.adapter == ""
    await peers.remember(lesson)
    await until(client, [lesson], Lesson.STATE_REMEMBERED)
    refused = await client.refusal(client.train())
    assert refused.reason == "DATASET_EMPTY"


async def test_tenants_learn_apart(client, peers, bus):
    """Neither lessons nor requests nor numbers of another tenant are seen."""
    await teach(client, peers, 1)
    request = await client.train()
    client.tenant = f"{client.tenant}-other"
    assert (await client.refusal(client.train())).reason == "DATASET_EMPTY"
    refused = await client.refusal(client.training_request(request.name))
    assert refused.reason == "RESOURCE_NOT_FOUND"
    assert await client.stats() == []
