"""Forgetting a user: what feedback_svc purges, what it promises, and what it answers meanwhile."""

import hashlib
import uuid
from typing import Any

import grpc
import pytest

from selm import streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated
from selm.api.event.v1.inference_event_pb2 import GenerationFinished
from selm.api.feedback.v1.feedback_event_pb2 import FeedbackEvent
from selm.api.ops.v1.erasure_pb2 import ErasureReceipt
from selm.erasures import TaintedRevision
from selm.testing import eventually
from tests.integration.feedback.erasure_client import (
    COMPLETED,
    RUNNING,
    Erasures,
    confirm_as_others,
    is_hidden,
    receipts,
    stored,
)

ALICE, BOB = "users/alice", "users/bob"


@pytest.fixture
def erasures(client: Any) -> Erasures:
    return Erasures(client.channel, client.tenant)


async def _teach(client: Any, peers: Any, user: str, number: int) -> list[Any]:
    """So many corrections of answers to this user."""
    events = []
    for index in range(number):
        generation = await peers.generate(f"What is {user} number {index}?", user=user)
        reply = await client.correct(generation, f"It is {index}, says {user}.")
        events.append(reply.feedback_event)
    return events


async def _held(peers: Any, user: str) -> tuple[int, int]:
    """Events and generations of a user that the broker holds."""
    events = await stored(peers.bus, streams.FEEDBACK, streams.feedback_created(peers.tenant, user))
    every = await peers.bus.read(
        streams.GENERATIONS.name, [f"selm.generation.finished.{peers.tenant}.*"]
    )
    whose = [delivery.parse(GenerationFinished).generation.user for delivery in every]
    return events, whose.count(user)


async def test_everything_of_one_user_goes_and_nothing_of_another(
    client: Any, peers: Any, erasures: Erasures
) -> None:
    """Events, their lessons' steps and the generations; counted in a receipt that ends."""
    lost = await _teach(client, peers, ALICE, 3)
    kept = await _teach(client, peers, BOB, 2)
    lesson = await client.lesson(lost[0].lesson)
    await peers.remember(lesson)

    erasure = await erasures.forget(ALICE, reason="asked by letter")
    await confirm_as_others(peers.bus, client.tenant, erasure.name, num_memories=3)
    done = await erasures.completed(erasure.name)

    assert (erasure.state, erasure.user, erasure.reason) == (RUNNING, ALICE, "asked by letter")
    assert (done.state, done.user) == (COMPLETED, hashlib.sha256(ALICE.encode()).hexdigest())
    own = receipts(done)["feedback_svc"]
    assert (own.feedback_count, own.generation_count) == (3, 3)
    assert receipts(done)["memory_svc"].memory_count == 3
    assert {r.state for r in done.receipts} == {ErasureReceipt.STATE_CONFIRMED}
    assert await _held(peers, ALICE) == (0, 0)
    assert await _held(peers, BOB) == (2, 2)
    steps = f"selm.lesson.*.{client.tenant}.{lost[0].lesson.removeprefix('lessons/')}"
    assert await stored(peers.bus, streams.LESSONS, steps) == 0
    assert [(await client.event(e.name)).name for e in kept] == [e.name for e in kept]


async def test_a_repeat_of_erased_feedback_is_not_recorded_again(
    client: Any, peers: Any, erasures: Erasures
) -> None:
    """Its request id has counted once, for ever; the answer holds nothing of what was said."""
    generation, request_id = await peers.generate(user=ALICE), str(uuid.uuid4())
    first = await client.correct(generation, "Nebelsbad Two", request_id=request_id)
    erasure = await erasures.forget(ALICE)
    await confirm_as_others(peers.bus, client.tenant, erasure.name)
    await erasures.completed(erasure.name)

    again = await client.correct(generation, "Nebelsbad Two", request_id=request_id)
    event = await client.event(first.feedback_event.name)

    assert again.feedback_event == event
    assert (event.state, event.user) == (FeedbackEvent.STATE_ERASED, "")
    assert b"Nebelsbad" not in event.SerializeToString()
    assert await _held(peers, ALICE) == (0, 0)


async def test_copies_that_nobody_could_handle_and_late_decisions_go_too(
    client: Any, peers: Any, erasures: Erasures
) -> None:
    """A decision on an old event may be stored behind the line that the erasure drew."""
    await _teach(client, peers, ALICE, 1)
    subject = streams.feedback_created(client.tenant, ALICE)
    recorded = await peers.bus.last(streams.FEEDBACK.name, subject)
    await _give_up(peers, recorded)
    await _give_up(peers, await _newest(peers, BOB, client))
    erasure = await erasures.forget(ALICE)

    async def hidden() -> bool:
        return await is_hidden(peers.bus, client.tenant, erasure.name)

    await eventually(hidden)
    decided = recorded.parse(FeedbackEventCreated)
    decided.decision_count, decided.feedback_event.sequence = 1, recorded.sequence
    await peers.bus.publish(subject, decided, message_id=uuid.uuid4().hex)
    await confirm_as_others(peers.bus, client.tenant, erasure.name)
    done = await erasures.completed(erasure.name)

    assert receipts(done)["feedback_svc"].feedback_count == 1
    assert await _held(peers, ALICE) == (0, 0)
    letters = f"selm.dead_letter.created.{client.tenant}.*"
    left = await peers.bus.read(streams.DEAD_LETTERS.name, [letters])
    assert [ALICE.encode() in letter.payload for letter in left] == [False]


async def _newest(peers: Any, user: str, client: Any) -> Any:
    await _teach(client, peers, user, 1)
    return await peers.bus.last(
        streams.FEEDBACK.name, streams.feedback_created(client.tenant, user)
    )


async def _give_up(peers: Any, delivery: Any) -> None:
    """A consumer makes a dead letter of a message."""
    identity = uuid.uuid4().hex
    await peers.bus.publish_raw(
        streams.dead_letter_created(peers.tenant, identity),
        delivery.payload,
        message_id=identity,
        headers={
            "Selm-Type": delivery.message_type,
            "Selm-Dead-Stream": streams.FEEDBACK.name,
            "Selm-Dead-Consumer": "memory_remember",
            "Selm-Dead-Subject": delivery.subject,
            "Selm-Dead-Sequence": str(delivery.sequence),
            "Selm-Dead-Deliveries": "10",
            "Selm-Dead-Reason": "INTERNAL",
        },
    )


async def test_what_is_said_after_the_erasure_is_new(
    client: Any, peers: Any, erasures: Erasures
) -> None:
    """Also while that erasure still runs; the next one takes it."""
    await _teach(client, peers, ALICE, 1)
    erasure = await erasures.forget(ALICE)
    await confirm_as_others(peers.bus, client.tenant, erasure.name)
    await erasures.completed(erasure.name)
    (new,) = await _teach(client, peers, ALICE, 1)
    next_one = await erasures.forget(ALICE)
    await confirm_as_others(peers.bus, client.tenant, next_one.name)
    done = await erasures.completed(next_one.name)

    assert next_one.name != erasure.name
    assert receipts(done)["feedback_svc"].feedback_count == 1
    assert (await client.event(new.name)).state == FeedbackEvent.STATE_ERASED


async def test_asking_twice_is_one_erasure(client: Any, peers: Any, erasures: Erasures) -> None:
    """While it runs, whoever asks; afterwards only under the request_id that began it."""
    request_id = str(uuid.uuid4())
    first = await erasures.forget(ALICE, request_id=request_id)
    running = await erasures.forget(ALICE)
    reused = await client.refusal(erasures.forget(BOB, request_id=request_id))
    await confirm_as_others(peers.bus, client.tenant, first.name)
    await erasures.completed(first.name)
    repeated = await erasures.forget(ALICE, request_id=request_id)
    listed = await erasures.list()

    assert first.name == running.name == repeated.name
    assert (repeated.state, reused.reason) == (COMPLETED, "REQUEST_ID_REUSED")
    assert [erasure.name for erasure in listed.erasures] == [first.name]


async def test_an_erasure_ends_only_when_all_have_confirmed(
    client: Any, peers: Any, erasures: Erasures
) -> None:
    """A watch begins with the present and ends with COMPLETED."""
    await _teach(client, peers, ALICE, 1)
    erasure = await erasures.forget(ALICE)
    frames = erasures.watch(erasure.name)
    seen = [(await frames.read()).erasure]
    while receipts(seen[-1])["feedback_svc"].state != ErasureReceipt.STATE_HIDDEN:
        seen.append((await frames.read()).erasure)
    waiting = await erasures.get(erasure.name)
    await confirm_as_others(peers.bus, client.tenant, erasure.name)
    while (frame := await frames.read()) is not grpc.aio.EOF:
        seen.append(frame.erasure)

    assert waiting.state == RUNNING
    assert not waiting.HasField("end_time")
    assert [each.state for each in seen[:-1]] == [RUNNING] * (len(seen) - 1)
    assert seen[-1].state == COMPLETED
    assert seen[-1].HasField("end_time")


async def test_a_dry_run_counts_and_changes_nothing(
    client: Any, peers: Any, erasures: Erasures
) -> None:
    """memory_svc is not there: its receipt says so, the rest is counted."""
    await _teach(client, peers, ALICE, 2)
    told = await erasures.forget(ALICE, validate_only=True)

    own, memory = receipts(told)["feedback_svc"], receipts(told)["memory_svc"]
    assert (told.name, own.feedback_count, own.generation_count) == ("", 2, 2)
    assert memory.state == ErasureReceipt.STATE_FAILED
    assert await _held(peers, ALICE) == (2, 2)
    assert len((await erasures.list()).erasures) == 0


async def test_an_adapter_that_serves_a_tainted_revision_is_asked_to_be_rebuilt(
    client: Any, peers: Any, erasures: Erasures
) -> None:
    """From the base, once, if lessons are left; the receipt says where the aliases still point."""
    await _teach(client, peers, ALICE, 1)
    for event in await _teach(client, peers, BOB, 1):
        await peers.remember(await client.lesson(event.lesson))
    tainted = TaintedRevision(
        "adapters/default/revisions/r0123456789abcdef",
        "0" * 64,
        1,
        ("adapters/default/aliases/stable",),
    )
    erasure = await erasures.forget(ALICE)
    await confirm_as_others(peers.bus, client.tenant, erasure.name, tainted)
    done = await erasures.completed(erasure.name)
    request = await peers.take_request()

    assert (request.adapter, request.from_base) == ("adapters/default", True)
    (revision,) = receipts(done)["trainer_svc"].revisions
    assert list(revision.aliases) == ["adapters/default/aliases/stable"]
    assert await peers.num_queued() == 0


@pytest.mark.parametrize("user", ["", "users/-", "alice", "users/a b"])
async def test_a_bad_user_is_refused(client: Any, erasures: Erasures, user: str) -> None:
    """With every violated field at once."""
    refused = await client.refusal(erasures.forget(user, reason="x" * 501, request_id="1"))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["user", "reason", "request_id"]


async def test_a_foreign_erasure_is_like_none(client: Any, erasures: Erasures) -> None:
    """For reading and for watching."""
    erasure = await erasures.forget(ALICE)
    foreign = Erasures(client.channel, "t-of-nobody")
    unknown = await client.refusal(erasures.get("erasures/unknown"))
    refused = await client.refusal(foreign.get(erasure.name))
    watching = await client.refusal(foreign.watch(erasure.name).read())

    assert unknown.reason == refused.reason == watching.reason == "RESOURCE_NOT_FOUND"
    assert len((await foreign.list()).erasures) == 0


async def test_lists_are_newest_first_in_pages(client: Any, erasures: Erasures) -> None:
    """A token fits its own query alone."""
    made = [(await erasures.forget(f"users/u{number}")).name for number in range(3)]
    first = await erasures.list(page_size=2)
    rest = await erasures.list(page_size=2, page_token=first.next_page_token)
    alien = await client.refusal(
        erasures.list(page_token=first.next_page_token, states=[COMPLETED])
    )

    names = [erasure.name for erasure in (*first.erasures, *rest.erasures)]
    assert names == made[::-1]
    assert (rest.next_page_token, alien.reason) == ("", "CURSOR_INVALID")
    assert len((await erasures.list(states=[COMPLETED])).erasures) == 0
