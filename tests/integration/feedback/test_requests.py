"""Training requests listed, reprioritised and cancelled."""

import asyncio
import uuid

import grpc
import pytest
from prometheus_client import REGISTRY

from selm import streams
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.api.trainer.v1.training_job_pb2 import TrainingJob
from selm.testing import eventually
from tests.integration.feedback.learning_client import (
    ask_each,
    call,
    cancel,
    is_lesson,
    is_request,
    prioritise,
    queued_names,
    teach,
)

CANCELLED = TrainingRequest.STATE_CANCELLED
WAITING = TrainingRequest.STATE_WAITING


async def _list(client, **fields):
    return await call(client, "ListTrainingRequests", **fields)


async def test_requests_are_listed_newest_first_in_pages_and_by_state(client, peers):
    """A token fits its own query; nobody sees another tenant's."""
    requests = await ask_each(client, peers, "ada", "bob", "cyd")
    names = [request.name for request in reversed(requests)]
    page = await _list(client, page_size=2)
    rest = await _list(client, page_size=2, page_token=page.next_page_token)
    found = [*page.training_requests, *rest.training_requests]
    assert [request.name for request in found] == names
    assert rest.next_page_token == ""
    only = await _list(client, adapter="adapters/bob", states=[WAITING])
    assert [request.name for request in only.training_requests] == [requests[1].name]
    assert not (await _list(client, states=[CANCELLED])).training_requests
    refused = await client.refusal(_list(client, page_token=page.next_page_token, states=[WAITING]))
    assert refused.reason == "CURSOR_INVALID"
    refused = await client.refusal(_list(client, page_size=-1, adapter="x", states=[99]))
    assert set(refused.fields) == {"page_size", "adapter", "states"}
    client.tenant = f"{client.tenant}-other"
    assert not (await _list(client)).training_requests


async def test_the_most_urgent_request_is_next_and_one_that_waits_gives_way(client, peers):
    """One stands in the queue; who comes before it takes its place, until a trainer has it."""
    first, second, third = await ask_each(client, peers, "ada", "bob", "cyd")
    assert await queued_names(peers) == [first.name]
    assert (await prioritise(client, third, 5)).priority == 5
    assert await queued_names(peers) == [third.name]
    await prioritise(client, second, 5)
    # As urgent, and not older: it waits its turn.
    assert await queued_names(peers) == [third.name]
    taken = []
    for _ in range(3):
        [name] = await eventually(lambda: queued_names(peers))
        taken.append(name)
        request = await peers.take_request()
        await peers.job(request, TrainingJob.STATE_TRAINING)
    assert taken == [third.name, second.name, first.name]
    await eventually(lambda: is_request(client, first, TrainingRequest.STATE_RUNNING))
    refused = await client.refusal(prioritise(client, first, 1))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "STATE_CONFLICT",
    )


async def test_a_request_may_be_urgent_from_the_start(client, peers):
    """Bounds are told; only the priority changes, and to zero only if asked for."""
    [slow] = await ask_each(client, peers, "ada")
    [urgent] = await ask_each(client, peers, "bob", priority=10)
    assert await queued_names(peers) == [urgent.name]
    refused = await client.refusal(prioritise(client, slow, 11))
    assert refused.fields == ["training_request.priority"]
    refused = await client.refusal(prioritise(client, slow, 1, update_mask={"paths": ["reason"]}))
    assert refused.fields == ["update_mask[reason]"]
    assert (await prioritise(client, urgent, 0)).priority == 10
    changed = await prioritise(client, urgent, 0, update_mask={"paths": ["priority"]})
    assert changed.priority == 0


async def test_a_waiting_request_is_cancelled_at_once_and_its_lessons_wait_again(client, peers):
    """Also out of the work queue; again is fine, and then something else may be asked for."""
    lesson = await teach(client, peers, 1)
    request = await client.train()
    assert await peers.num_queued() == 1
    request_id = str(uuid.uuid4())
    cancelled = await cancel(client, request, request_id)
    assert cancelled.state == CANCELLED
    assert await peers.num_queued() == 0
    assert await cancel(client, request, request_id) == cancelled
    assert await cancel(client, request) == cancelled
    await eventually(lambda: is_lesson(client, lesson, Lesson.STATE_REMEMBERED))
    again = await client.train()
    assert (again.name != request.name, again.lesson_count) == (True, 1)
    assert await queued_names(peers) == [again.name]


async def test_one_that_has_not_had_its_turn_is_cancelled_without_touching_the_queue(client, peers):
    """The other one goes on."""
    first, second = await ask_each(client, peers, "ada", "bob")
    assert (await cancel(client, second)).state == CANCELLED
    assert await queued_names(peers) == [first.name]


async def test_a_running_request_is_cancelled_by_its_trainer(client, peers):
    """The mark tells the trainers; the job says how it ended, and the mark goes."""
    await teach(client, peers, 1)
    request = await client.train()
    await peers.take_request()
    await peers.job(request, TrainingJob.STATE_TRAINING)
    await eventually(lambda: is_request(client, request, TrainingRequest.STATE_RUNNING))
    marks = peers.bus.kv("training_cancellations")
    key = f"{peers.tenant}.{request.name.removeprefix('trainingRequests/')}"

    async def end() -> None:
        await eventually(lambda: marks.get(key))
        await peers.job(request, TrainingJob.STATE_CANCELLED)

    cancelled, _ = await asyncio.gather(cancel(client, request), end())
    assert cancelled.state == CANCELLED

    async def is_cleared() -> bool:
        return await marks.get(key) is None

    await eventually(is_cleared)


async def test_one_whose_job_ends_otherwise_meanwhile_is_no_cancelled_one(client, peers):
    """It was past stopping: there is one final state, and the caller hears which."""
    await teach(client, peers, 1)
    request = await client.train()
    await peers.take_request()
    await peers.job(request, TrainingJob.STATE_PUBLISHING)
    await eventually(lambda: is_request(client, request, TrainingRequest.STATE_RUNNING))

    async def end() -> None:
        await asyncio.sleep(0.2)
        await peers.job(request, TrainingJob.STATE_SUCCEEDED)

    refused, _ = await asyncio.gather(client.refusal(cancel(client, request)), end())
    assert refused.reason == "STATE_CONFLICT"
    assert await is_request(client, request, TrainingRequest.STATE_SUCCEEDED)
    assert (await client.refusal(cancel(client, request))).reason == "STATE_CONFLICT"
    client.tenant = f"{client.tenant}-other"
    assert (await client.refusal(cancel(client, request))).reason == "RESOURCE_NOT_FOUND"


async def test_one_that_a_trainer_was_handed_is_never_taken_out(client, peers, bus):
    """What the consumer has is the trainer's: it hears of the cancellation by the mark."""
    await teach(client, peers, 1)
    request = await client.train()
    handed, release = asyncio.Event(), asyncio.Event()

    async def work(delivery) -> None:
        if streams.tenant_of(delivery.subject) == peers.tenant:
            handed.set()
            await release.wait()

    consumer = asyncio.create_task(
        bus.consume("TRAINING", streams.TRAINERS, work, subjects=streams.TRAINING.subjects)
    )
    try:
        await asyncio.wait_for(handed.wait(), 10)
        marks = bus.kv("training_cancellations")
        key = f"{peers.tenant}.{request.name.removeprefix('trainingRequests/')}"

        async def end() -> None:
            await eventually(lambda: marks.get(key))
            assert await queued_names(peers) == [request.name]
            await peers.job(request, TrainingJob.STATE_CANCELLED)

        cancelled, _ = await asyncio.gather(cancel(client, request), end())
        assert cancelled.state == CANCELLED
        release.set()
        await eventually(lambda: _is_empty(peers))
    finally:
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
        await bus.connection.jetstream().delete_consumer("TRAINING", streams.TRAINERS)


async def _is_empty(peers) -> bool:
    return await peers.num_queued() == 0


async def test_queues_are_measured_without_naming_tenants(client, peers, metric):
    """What a dashboard needs: waiting requests and the age of the oldest lesson."""
    await ask_each(client, peers, "ada", "bob")
    await teach(client, peers, 99)
    await eventually(lambda: metric("selm_feedback_queue_requests", state="waiting"))
    assert await metric("selm_feedback_waiting_lessons")
    assert await metric("selm_feedback_queue_oldest_age_seconds")


@pytest.fixture
def metric():
    """The value of one of this process, where the service runs as well."""

    async def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    return value
