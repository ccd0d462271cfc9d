"""Copies of an erased user's messages that were to be delivered again: gone, or dropped."""

import asyncio
from typing import Any

from nats.js.errors import NotFoundError

from selm import redelivery, streams
from selm.delivery import Delivery
from selm.testing import eventually
from tests.integration.feedback.erasure_client import Erasures, confirm_as_others
from tests.integration.feedback.learning_client import call

ALICE, BOB = "users/alice", "users/bob"


async def _say(client: Any, peers: Any, user: str) -> Any:
    """What FEEDBACK holds of a user after one correction."""
    generation = await peers.generate(f"What is {user}?", user=user)
    await client.correct(generation, f"It is said by {user}.")
    subject = streams.feedback_created(peers.tenant, user)
    return await peers.bus.last(streams.FEEDBACK.name, subject)


async def _forget(client: Any, peers: Any, user: str) -> None:
    erasures = Erasures(client.channel, peers.tenant)
    erasure = await erasures.forget(user)
    await confirm_as_others(peers.bus, peers.tenant, erasure.name)
    await erasures.completed(erasure.name)


async def _waiting(peers: Any) -> list[bytes]:
    """What waits in the tenant's part of the queue."""
    jetstream, name = peers.bus.connection.jetstream(), streams.REDELIVERIES.name
    state = (await jetstream.stream_info(name)).state
    found = []
    for sequence in range(max(1, state.first_seq), state.last_seq + 1):
        try:
            message = await jetstream.get_msg(name, sequence)
        except NotFoundError:
            continue
        if streams.tenant_of(message.subject) == peers.tenant:
            found.append(message.data)
    return found


async def test_a_copy_that_waits_for_a_stopped_consumer_goes(client: Any, peers: Any) -> None:
    """And another user's copy waits on."""
    for user in (ALICE, BOB, ALICE):
        await _say(client, peers, user)
    reply = await call(client, "ReplayFeedbackEvents", first_sequence=1, consumer="memory_svc")
    assert reply.replay_count == len(await _waiting(peers)) == 3
    await _forget(client, peers, ALICE)
    assert [ALICE.encode() in copy for copy in await _waiting(peers)] == [False]


async def test_a_copy_sent_between_the_two_halves_goes_too(client: Any, peers: Any) -> None:
    """It was on its way when the queue was looked through."""
    of_alice = await _say(client, peers, ALICE)
    erasures = Erasures(client.channel, peers.tenant)
    erasure = await erasures.forget(ALICE)

    async def is_purged() -> bool:
        return await peers.bus.last(streams.FEEDBACK.name, of_alice.subject) is None

    await eventually(is_purged)
    await eventually(lambda: _is_told(erasures, erasure.name))
    await peers.bus.publish_one(redelivery.publication_of(of_alice, "memory_remember", "late"))
    assert len(await _waiting(peers)) == 1
    await confirm_as_others(peers.bus, peers.tenant, erasure.name)
    await erasures.completed(erasure.name)
    assert await _waiting(peers) == []


async def _is_told(erasures: Erasures, name: str) -> bool:
    """Whether feedback_svc has done its first half."""
    found = await erasures.get(name)
    return any(r.service == "feedback_svc" and r.state == r.STATE_HIDDEN for r in found.receipts)


async def test_a_copy_that_a_consumer_takes_after_all_is_dropped(client: Any, peers: Any) -> None:
    """Its handler never sees it; what still stands in the stream is delivered again."""
    of_alice = await _say(client, peers, ALICE)
    of_bob = await _say(client, peers, BOB)
    await _forget(client, peers, ALICE)
    seen, durable = list[Delivery](), f"copies_of_{peers.tenant}"

    async def keep(delivery: Delivery) -> None:
        seen.append(delivery)

    subjects = [f"selm.feedback.created.{peers.tenant}.*"]
    consumer = peers.bus.consume(streams.FEEDBACK.name, durable, keep, subjects=subjects)
    task = asyncio.create_task(consumer)
    try:
        for copy in (of_alice, of_bob):
            await peers.bus.publish_one(redelivery.publication_of(copy, durable, "late"))

        async def is_seen_twice() -> bool:
            return len(seen) >= 2

        await eventually(is_seen_twice)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert {delivery.message_id for delivery in seen} == {of_bob.message_id}
    assert await _waiting(peers) == []
