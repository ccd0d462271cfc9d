"""Training that somebody asks for: what it covers, and what is refused."""

import uuid

import grpc

from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.api.trainer.v1.training_job_pb2 import TrainingJob
from selm.testing import eventually
from tests.integration.feedback.learning_client import is_lesson, is_request, teach, until


async def test_nothing_to_learn_is_refused(client):
    """DATASET_EMPTY, also for a training from the base model."""
    for wish in ({}, {"from_base": True}):
        refused = await client.refusal(client.train(**wish))
        assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.reason == "DATASET_EMPTY"


async def test_training_of_an_unknown_adapter_is_not_found(client):
    """The base model or another adapter never takes its place."""
    refused = await client.refusal(client.train(adapter="adapters/unknown"))
    assert refused.reason == "ADAPTER_NOT_FOUND"
    refused = await client.refusal(client.train(adapter="nonsense", reason="x" * 501))
    assert refused.fields == ["training_request.adapter", "training_request.reason"]


async def test_a_manual_request_covers_what_waits_and_is_made_once(client, peers):
    """A waiting request is returned instead of a second one."""
    lesson = await teach(client, peers, 1, remember=False)
    request = await client.train(reason="now")
    assert request.trigger == TrainingRequest.TRIGGER_MANUAL
    assert (request.lesson_count, request.reason) == (1, "now")
    await until(client, [lesson], Lesson.STATE_QUEUED)
    assert (await client.train()).name == request.name
    await teach(client, peers, 2)
    assert (await client.train(from_base=True)).name == request.name
    assert await peers.num_queued() == 1
    # Memory is late: that is no step back.
    await peers.remember(lesson)
    await eventually(lambda: _has_memory(client, lesson))
    assert await is_lesson(client, lesson, Lesson.STATE_QUEUED)


async def _has_memory(client, lesson) -> bool:
    return bool((await client.lesson(lesson.name)).memory)


async def test_a_repeated_manual_request_returns_the_first_even_when_it_is_over(client, peers):
    """A request_id stands for one request."""
    await teach(client, peers, 1)
    request_id = str(uuid.uuid4())
    request = await client.train(request_id=request_id)
    await peers.job(request, TrainingJob.STATE_SUCCEEDED)
    await eventually(lambda: is_request(client, request, TrainingRequest.STATE_SUCCEEDED))
    await teach(client, peers, 2)
    assert (await client.train(request_id=request_id)).name == request.name
    refused = await client.refusal(client.train(request_id=request_id, from_base=True))
    assert refused.reason == "REQUEST_ID_REUSED"
    assert (await client.train()).name != request.name
