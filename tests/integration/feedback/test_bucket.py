"""What the bucket keeps of training requests and request ids: every tenant's, through any crash."""

import json
import uuid

import pytest

from feedback_svc.training.request_store import BUCKET
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.trainer.v1.training_job_pb2 import TrainingJob
from selm.testing import eventually

CRASH = "feedback.after_training_requested=exit(137)"


async def _teach(client, peers, answer: str):
    generation = await peers.generate(question=f"Which house is {answer}?")
    return (await client.correct(generation, answer)).feedback_event


async def _die_with_a_request(service, client, peers, request_id: str, **settings: str):
    """A request whose message a trainer took and finished, though nobody noted it was sent."""
    await service.start(CRASH, training_paused="true", **settings)
    await client.wait_ready()
    await _teach(client, peers, "Lutz")
    await client.refusal(client.train(request_id=request_id))
    await service.died()
    request = await peers.take_request()
    await peers.job(request, TrainingJob.STATE_SUCCEEDED)
    return request


async def test_a_request_that_was_never_marked_makes_way_without_vanishing(
    child, client_of, own_bus, nats_server, peers_on, tenant
):
    """The next one takes its place, and it is still known, by name and by its request_id."""
    peers, service, request_id = peers_on(own_bus), child(nats_server.url), str(uuid.uuid4())
    # The loop looks once a minute: it has not marked anything when the next request is made.
    settings = {"training_paused": "true", "policy_interval_s": "60"}
    async with client_of(service.address, tenant) as client:
        first = await _die_with_a_request(
            service, client, peers, request_id, policy_interval_s="60"
        )
        await service.start(**settings)
        await client.wait_ready()
        await _teach(client, peers, "Linz")
        second = await client.train()
        assert second.name != first.name
        await service.kill()
        await service.start(**settings)
        await client.wait_ready()
        known = await client.training_request(first.name)
        assert known.state == TrainingRequest.STATE_SUCCEEDED
        assert (await client.train(request_id=request_id)).name == first.name
        assert (await client.training_request(second.name)).name == second.name


async def test_a_request_that_ran_meanwhile_is_marked_and_not_sent_again(
    child, client_of, own_bus, nats_server, peers_on, tenant
):
    """The loop of the next process stores the mark."""
    peers, service = peers_on(own_bus), child(nats_server.url)
    async with client_of(service.address, tenant) as client:
        first = await _die_with_a_request(service, client, peers, str(uuid.uuid4()))
        await service.start(training_paused="true")
        key = f"training_request.{tenant}.{first.name.removeprefix('trainingRequests/')}"

        async def is_marked() -> bool:
            entry = await own_bus.kv(BUCKET).get(key)
            return entry is not None and json.loads(entry.value)["stage"] == "RELEASED"

        await eventually(is_marked)
    assert await peers.num_queued() == 0


@pytest.mark.parametrize("tenant", ["latest", "training-request", "ledger"])
async def test_a_tenant_may_be_called_like_a_key_of_the_bucket(
    tenant, child, client_of, own_bus, nats_server, peers_on
):
    """Its request ids are no requests: the next start reads the bucket and knows them all."""
    peers, service = peers_on(own_bus), child(nats_server.url)
    generation = await peers.generate()
    recorded, asked = {"request_id": str(uuid.uuid4())}, {"request_id": str(uuid.uuid4())}
    async with client_of(service.address, tenant) as client:
        await service.start(training_paused="true")
        await client.wait_ready()
        reply = await client.correct(generation, "Lutz", **recorded)
        request = await client.train(**asked)
        await service.kill()
        await service.start(training_paused="true")
        await client.wait_ready()
        assert await client.correct(generation, "Lutz", **recorded) == reply
        assert (await client.train(**asked)).name == request.name
    assert len(await peers.recorded()) == 1
    keys = await own_bus.kv(BUCKET).keys()
    assert sorted({key.split(".")[0] for key in keys}) == ["latest", "ledger", "training_request"]


async def test_an_entry_that_is_no_request_does_not_keep_the_service_from_starting(
    client_of, own_bus, nats_server, running, tenant
):
    """Such as an earlier version wrote for a tenant named `latest`; the others are read."""
    for value in (b'{"digest": "d", "resource": "r", "is_done": true}', b"[]", b"\xff"):
        await own_bus.kv(BUCKET).put(f"latest.{uuid.uuid4()}", value)
    async with (
        running(nats_server.url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
