"""Authors who agree and who do not: quorum and conflicts, on a real nats-server."""

from typing import Any

import pytest

from selm.api.feedback.v1 import feedback_event_pb2
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.testing import eventually
from tests.integration.feedback.review_client import (
    OPEN,
    RESOLVED,
    Person,
    client,
    person_of,
    refused,
    rita,
)

__all__ = ["client", "rita"]

PRIVATE, SHARED = (
    feedback_event_pb2.CONSENT_PRIVATE_ADAPTER,
    feedback_event_pb2.CONSENT_SHARED_ADAPTER,
)
QUESTION = "What is the capital of Zubrowka?"


@pytest.fixture
async def quorum_of_two(rita: Person) -> None:
    await rita.set_policy(quorum_authors=2)


async def says(rita: Person, peers: Any, author: str, answer: str) -> Any:
    """The event of what somebody says the capital is."""
    generation = await peers.generate(QUESTION, f"It is not {answer}, I think.")
    return await rita.named(author).correct(generation, answer, user=f"users/{author}")


async def reaching(rita: Person, event: Any, reach: int) -> Any:
    async def there() -> Any:
        now = await rita.event(event.name)
        return now if now.reach == reach else None

    return await eventually(there)


async def conflict_in(rita: Person, state: int) -> Any:
    async def there() -> Any:
        return await rita.conflicts(state)

    (conflict,) = await eventually(there)
    return conflict


async def test_a_quorum_makes_a_lesson_of_a_shared_adapter(
    rita: Person, client: Any, peers: Any, quorum_of_two: None
) -> None:
    """One author's word stays with its user; a second who says the same shares both, said by
    `quorum`; the lesson then has its adapter."""
    first = await says(rita, peers, "anna", "Lutz")
    alone = await client.lesson(first.lesson)
    await peers.remember(alone)
    call = client.watch(first.lesson)
    second = await says(rita, peers, "bo", "the capital is Lutz.")

    async for frame in call:
        lesson = frame.lesson
        if lesson.adapter:
            break
    call.cancel()
    await reaching(rita, second, SHARED)

    assert (first.reach, second.reach, alone.adapter) == (PRIVATE, PRIVATE, "")
    assert lesson.adapter == "adapters/default"
    assert await rita.conflicts(OPEN, RESOLVED) == []


async def test_two_replicas_decide_once(
    rita: Person, peers: Any, quorum_of_two: None, running: Any, client_of: Any, nats_url: str
) -> None:
    """Whatever each of them does about a quorum, every event is widened by one decision, and what
    was decided is known to who starts later."""
    async with running(nats_url, training_paused=True) as address:
        async with client_of(address, rita.tenant) as ready:
            await ready.wait_ready()
        sent = [await says(rita, peers, author, "Lutz") for author in ("anna", "bo", "cleo")]
        for event in sent:
            await reaching(rita, event, SHARED)
        async with person_of(address, rita.tenant) as other:
            for event in sent:
                await reaching(other, event, SHARED)

    counts = [message.decision_count for message in await peers.recorded()]
    assert sorted(counts) == [0, 0, 0, 1, 1, 1]


async def test_the_same_author_twice_is_no_quorum(
    rita: Person, client: Any, peers: Any, quorum_of_two: None
) -> None:
    """He has one say; a blocked author has none."""
    first = await says(rita, peers, "anna", "Lutz")
    again = await says(rita, peers, "anna", "Lutz")
    await says(rita, peers, "bo", "Zubrow")
    await rita.call("UpdateAuthor", author={"name": "authors/bo", "blocked": True})
    third = await says(rita, peers, "cleo", "Lutz")

    await reaching(rita, third, SHARED)
    await reaching(rita, again, SHARED)
    assert (await rita.event(first.name)).reach == PRIVATE
    assert await rita.conflicts(OPEN) == []


async def test_a_conflict_blocks_until_a_quorum_resolves_it_and_opens_again(
    rita: Person, peers: Any, quorum_of_two: None
) -> None:
    """One against one is open; two against one is resolved; without the second it is open."""
    lutz = await says(rita, peers, "anna", "Lutz")
    zubrow = await says(rita, peers, "bo", "Zubrow")
    conflict = await conflict_in(rita, OPEN)
    assert {claim.answer for claim in conflict.claims} == {"Lutz", "Zubrow"}
    assert (conflict.quorum_weight, conflict.resolver, conflict.question) == (1.0, "", QUESTION)

    await says(rita, peers, "cleo", "Lutz")
    await reaching(rita, lutz, SHARED)
    resolved = await conflict_in(rita, RESOLVED)
    assert (resolved.name, resolved.resolver) == (conflict.name, "quorum")
    assert [claim.answer for claim in resolved.claims if claim.winner] == ["Lutz"]
    assert (await rita.event(zubrow.name)).reach == PRIVATE

    await rita.call("UpdateAuthor", author={"name": "authors/cleo", "blocked": True})
    await reaching(rita, lutz, PRIVATE)
    assert (await conflict_in(rita, OPEN)).name == conflict.name


async def test_a_reviewer_resolves_a_conflict(
    rita: Person, client: Any, peers: Any, quorum_of_two: None
) -> None:
    """The claim he picks is shared, the lessons of the others end naming it, and nobody picks
    another one afterwards."""
    lutz = await says(rita, peers, "anna", "Lutz")
    zubrow = await says(rita, peers, "bo", "Zubrow")
    conflict = await conflict_in(rita, OPEN)
    ids = {claim.answer: claim.claim_id for claim in conflict.claims}

    async def resolve(claim: str, who: Person = rita) -> Any:
        wanted = {"name": conflict.name, "claim_id": claim, "reason": "looked it up"}
        return (await who.call("ResolveConflict", **wanted)).conflict

    own = await refused(resolve(ids["Lutz"], rita.named("anna", "feedback.review")))
    unknown = await refused(resolve("nobody"))
    resolved = await resolve(ids["Lutz"])
    again = await resolve(ids["Lutz"])
    late = await refused(resolve(ids["Zubrow"]))

    assert (own.reason, unknown.fields, late.reason) == (
        "SCOPE_MISSING",
        ["claim_id"],
        "STATE_CONFLICT",
    )
    assert (resolved.state, resolved.resolver, again.resolver) == (RESOLVED, "rita", "rita")
    await reaching(rita, lutz, SHARED)

    async def is_superseded() -> Any:
        lesson = await client.lesson(zubrow.lesson)
        return lesson if lesson.state == Lesson.STATE_SUPERSEDED else None

    loser = await eventually(is_superseded)
    assert loser.superseded_by == lutz.lesson
    assert loser.transitions[-1].reason == "resolved by rita: looked it up"
    assert (await rita.author("bo")).conflict_count == 1


async def test_without_a_quorum_the_newest_wins_and_the_conflict_is_listed(
    rita: Person, peers: Any
) -> None:
    """Nothing is withheld where nobody asked for a quorum."""
    lutz = await says(rita, peers, "anna", "Lutz")
    zubrow = await says(rita, peers, "bo", "Zubrow")
    (conflict,) = await rita.conflicts(RESOLVED)

    assert (lutz.reach, zubrow.reach) == (SHARED, SHARED)
    assert conflict.resolver == "quorum"
    assert [claim.answer for claim in conflict.claims if claim.winner] == ["Zubrow"]
    assert await rita.conflicts() == []
    same = (await rita.call("GetConflict", name=conflict.name)).conflict
    assert same == conflict
