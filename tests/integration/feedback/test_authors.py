"""Authors: trust that reviews move, blocking, and updates that happen once."""

import uuid
from typing import Any

import grpc

from selm.api.feedback.v1 import feedback_event_pb2
from selm.testing import eventually
from tests.integration.feedback.review_client import OVERRIDE, Person, item_of, person_of
from tests.integration.feedback.test_review import client, refused, rita

__all__ = ["client", "rita"]

S = feedback_event_pb2.FeedbackEvent


async def test_reviews_move_the_trust_of_an_author(rita: Person, peers: Any) -> None:
    """One who was approved is trusted more, one who was rejected less; what merely passed counts
    as accepted and moves nothing."""
    anna, bo = rita.named("anna"), rita.named("bo")
    await anna.correct(await peers.generate(), "Lutz")
    before = await rita.author("anna")
    assert (before.trust, before.accepted_count) == (0.5, 1)

    await rita.approve(item_of(await anna.correct(await peers.generate(), OVERRIDE)))
    await rita.reject(item_of(await bo.correct(await peers.generate(), OVERRIDE)), "no")

    good, bad = await rita.author("anna"), await rita.author("bo")
    assert (good.trust, good.accepted_count, good.rejected_count) == (2 / 3, 2, 0)
    assert (bad.trust, bad.accepted_count, bad.rejected_count) == (1 / 3, 0, 1)
    listed = (await rita.call("ListAuthors", page_size=1)).authors
    assert [author.name for author in listed] == ["authors/bo"]


async def test_all_that_a_blocked_author_sends_is_withheld(rita: Person, peers: Any) -> None:
    """Harmless words too; unblocked, it counts again."""
    anna = rita.named("anna")
    await anna.correct(await peers.generate(), "Lutz")

    await rita.call("UpdateAuthor", author={"name": "authors/anna", "blocked": True})
    held = await anna.correct(await peers.generate(), "Lutz again")
    await rita.call(
        "UpdateAuthor", author={"name": "authors/anna"}, update_mask={"paths": ["blocked"]}
    )
    free = await anna.correct(await peers.generate(), "Lutz once more")

    kinds = [finding.kind for finding in held.findings]
    assert kinds == [feedback_event_pb2.Finding.KIND_BLOCKED_AUTHOR]
    assert (held.state, free.state) == (S.STATE_QUARANTINED, S.STATE_ACCEPTED)


async def test_trust_that_is_set_moves_with_reviews_unless_it_is_fixed(
    rita: Person, peers: Any
) -> None:
    """What was decided before is part of what was set."""
    anna = rita.named("anna")
    await rita.reject(item_of(await anna.correct(await peers.generate(), OVERRIDE)), "no")

    await rita.call("UpdateAuthor", author={"name": "authors/anna", "trust": 0.8})
    assert (await rita.author("anna")).trust == 0.8
    await rita.reject(item_of(await anna.correct(await peers.generate(), OVERRIDE + " 2")), "no")
    assert (await rita.author("anna")).trust == 1.6 / 3

    fixed = {"name": "authors/anna", "trust": 0.9, "trust_fixed": True}
    await rita.call("UpdateAuthor", author=fixed)
    await rita.reject(item_of(await anna.correct(await peers.generate(), OVERRIDE + " 3")), "no")
    author = await rita.author("anna")
    assert (author.trust, author.trust_fixed, author.rejected_count) == (0.9, True, 3)


async def test_an_update_needs_the_present_etag_and_is_made_once(rita: Person, peers: Any) -> None:
    """A stale etag is refused; a repeat of a request changes nothing, whatever came since."""
    await rita.named("anna").correct(await peers.generate(), "Lutz")
    seen = await rita.author("anna")
    request_id = str(uuid.uuid4())
    low = {"name": "authors/anna", "trust": 0.1, "etag": seen.etag}

    await rita.call("UpdateAuthor", author=low, request_id=request_id)
    stale = await refused(rita.call("UpdateAuthor", author=low))
    await rita.call("UpdateAuthor", author={"name": "authors/anna", "trust": 0.7})
    repeated = await rita.call("UpdateAuthor", author=low, request_id=request_id)
    reused = await refused(
        rita.call(
            "UpdateAuthor", author={"name": "authors/anna", "trust": 0.3}, request_id=request_id
        )
    )

    assert stale.reason == "STALE_ETAG"
    assert repeated.author.trust == 0.7
    assert reused.reason == "REQUEST_ID_REUSED"


async def test_authors_outlive_the_service_and_belong_to_their_tenant(
    rita: Person, peers: Any, running: Any, nats_url: str
) -> None:
    """Another replica knows what was set and counted; another tenant and bad input are refused."""
    await rita.named("anna").correct(await peers.generate(), "Lutz")
    await rita.call("UpdateAuthor", author={"name": "authors/anna", "blocked": True})

    async with (
        running(nats_url, training_paused=True) as address,
        person_of(address, rita.tenant) as other,
    ):
        author = await eventually(lambda: _known(other))

    assert (author.blocked, author.accepted_count) == (True, 1)
    foreign = Person(rita.channel, f"t-{uuid.uuid4().hex[:16]}", "rita")
    absent = await refused(foreign.author("anna"))
    bad = await refused(
        rita.call(
            "UpdateAuthor",
            author={"name": "anna", "trust": 1.5},
            update_mask={"paths": ["accepted_count"]},
        )
    )
    assert absent.reason == "RESOURCE_NOT_FOUND"
    assert sorted(bad.fields) == ["author.name", "author.trust", "update_mask"]


async def _known(person: Person) -> Any:
    """The author Anna, once the service has started."""
    try:
        return await person.author("anna")
    except grpc.aio.AioRpcError:
        return None
