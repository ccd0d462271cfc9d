"""Training requests when a process dies: what was begun is finished, and once."""

import uuid

import grpc
import pytest

from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.api.trainer.v1.training_job_pb2 import TrainingJob
from selm.testing import eventually
from tests.integration.feedback.learning_client import (
    ask_each,
    cancel,
    is_request,
    prioritise,
    queued_names,
    teach,
)

CANCELLED = TrainingRequest.STATE_CANCELLED


async def test_a_request_survives_a_crash_before_and_after_it_is_announced(
    child, client_of, nats_url, peers, tenant
):
    """A new process finishes what was begun: one message for the trainers, lessons QUEUED once."""
    service = child(nats_url)
    request_id = str(uuid.uuid4())
    await service.start("feedback.after_request=exit(137)", training_paused="true")
    async with client_of(service.address, tenant) as client:
        await client.wait_ready()
        lesson = await teach(client, peers, 1)
        assert (await client.refusal(client.train(request_id=request_id))).code
        await service.died()
        assert await peers.num_queued() == 0
        crash = "feedback.after_training_requested=exit(137)"
        await service.start(crash, training_paused="true")
        await service.died()
        assert await peers.num_queued() == 1
        await service.start(training_paused="true")
        await client.wait_ready()
        request = await client.train(request_id=request_id)
        assert await peers.num_queued() == 1
        assert (await peers.take_request()).name == request.name
        lesson = await client.lesson(lesson.name)
    states = [Lesson.State.Name(step.state) for step in lesson.transitions]
    assert states.count("STATE_QUEUED") == 1


async def test_a_request_is_known_after_a_restart(client_of, nats_url, peers, running, tenant):
    """Also one that a trainer has taken out of the work queue."""
    async with (
        running(nats_url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        await teach(client, peers, 1)
        request = await client.train()
        await peers.take_request()
        job = await peers.job(request, TrainingJob.STATE_TRAINING)
    async with (
        running(nats_url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        known = await client.training_request(request.name)
    assert (known.state, known.training_job) == (TrainingRequest.STATE_RUNNING, job)


@pytest.mark.parametrize(
    "crash", ["feedback.after_cancel", "feedback.after_withdraw", "feedback.after_give_back"]
)
async def test_a_cancelled_request_ends_cancelled_whenever_the_process_dies(
    crash, child, client_of, nats_url, peers, tenant
):
    """What was begun is finished by the next process; nothing is left in the queue."""
    service = child(nats_url)
    async with client_of(service.address, tenant) as client:
        await service.start(f"{crash}=exit(137)", training_paused="true")
        await client.wait_ready()
        lesson = await teach(client, peers, 1)
        request = await client.train()
        refused = await client.refusal(cancel(client, request))
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert await service.died() == 137
        await service.start(training_paused="true")
        await client.wait_ready()
        await eventually(lambda: is_request(client, request, CANCELLED))
        assert await peers.num_queued() == 0
        known = await client.lesson(lesson.name)
    states = [Lesson.State.Name(step.state) for step in known.transitions]
    assert states[-2:] == ["STATE_QUEUED", "STATE_REMEMBERED"]
    assert states.count("STATE_QUEUED") == 1


@pytest.mark.parametrize(
    "crash",
    [
        "feedback.before_training_requested",
        "feedback.after_training_requested",
        "feedback.after_withdraw",
    ],
)
async def test_a_released_request_is_in_the_queue_once_whenever_the_process_dies(
    crash, child, client_of, nats_url, peers, tenant
):
    """F-05: before and after publishing, and while another takes its place."""
    service = child(nats_url)
    async with client_of(service.address, tenant) as client:
        await service.start(training_paused="true")
        await client.wait_ready()
        first, second = await ask_each(client, peers, "ada", "bob")
        await service.kill()
        await service.start(f"{crash}=exit(137)", training_paused="true")
        await client.wait_ready()
        await client.refusal(prioritise(client, second, 5))
        assert await service.died() == 137
        await service.start(training_paused="true")
        await client.wait_ready()
        assert (await prioritise(client, second, 5)).priority == 5

        async def is_second_alone() -> bool:
            return await queued_names(peers) == [second.name]

        await eventually(is_second_alone)
        await peers.job(await peers.take_request(), TrainingJob.STATE_SUCCEEDED)

        async def is_first_alone() -> bool:
            return await queued_names(peers) == [first.name]

        await eventually(is_first_alone)
        assert await is_request(client, second, TrainingRequest.STATE_SUCCEEDED)
