"""Reviewers decide: each decision followed through WatchLesson, on a real nats-server."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import feedback_event_pb2
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.lessons import LessonState
from tests.integration.feedback.feedback_client import refusal_of
from tests.integration.feedback.review_client import (
    AMENDED,
    APPROVED,
    OVERRIDE,
    PENDING,
    REJECTED,
    Person,
    client,
    item_of,
    refused,
    rita,
)

__all__ = ["client", "rita"]

S = feedback_event_pb2.FeedbackEvent


def states_of(lesson: Any) -> list[str]:
    return [Lesson.State.Name(t.state).removeprefix("STATE_") for t in lesson.transitions]


async def watched(client: Any, name: str, until: LessonState) -> Any:
    """The first frame of a watch in which the lesson is there."""
    async with aclosing(frames(client, name)) as lessons:
        async for lesson in lessons:
            if lesson.state == Lesson.State.Value(f"STATE_{until}"):
                return lesson
    raise AssertionError(f"never {until}")


async def frames(client: Any, name: str) -> AsyncIterator[Any]:
    call = client.watch(name)
    try:
        async for frame in call:
            yield frame.lesson
    finally:
        call.cancel()


async def test_a_quarantined_lesson_is_approved_and_remembered(
    rita: Person, client: Any, peers: Any
) -> None:
    """QUARANTINED, then RECEIVED with who let it in, then what memory_svc makes of it."""
    sent = await rita.named("anna").correct(await peers.generate(), OVERRIDE)
    assert sent.state == S.STATE_QUARANTINED
    withheld = await client.lesson(sent.lesson)
    assert states_of(withheld) == ["RECEIVED", "QUARANTINED"]

    item = await rita.approve(item_of(sent), reason="it is a test")
    assert (item.state, item.reviewer, item.reason) == (APPROVED, "rita", "it is a test")
    again = await rita.named("rolf").approve(item_of(sent))
    assert again.reviewer == "rita"
    await peers.remember(withheld)
    lesson = await watched(client, sent.lesson, LessonState.REMEMBERED)

    assert states_of(lesson) == ["RECEIVED", "QUARANTINED", "RECEIVED", "REMEMBERED"]
    assert lesson.transitions[2].reason == "let in by rita: it is a test"
    assert (await rita.event(sent.name)).state == S.STATE_ACCEPTED


async def test_a_quarantined_lesson_is_rejected(rita: Person, client: Any, peers: Any) -> None:
    """REJECTED is final, says the reviewer's reason, and nobody can approve it any more."""
    sent = await rita.named("anna").correct(await peers.generate(), OVERRIDE)

    missing = await refused(rita.reject(item_of(sent), ""))
    item = await rita.reject(item_of(sent), "an attack")
    lesson = await watched(client, sent.lesson, LessonState.REJECTED)
    late = await refused(rita.approve(item_of(sent)))

    assert missing.fields == ["reason"]
    assert item.state == REJECTED
    assert (
        lesson.failure.reason,
        lesson.failure.message,
    ) == (ErrorReason.ERROR_REASON_REVIEW_REJECTED, "an attack")
    assert (late.code, late.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STATE_CONFLICT")


async def test_an_amended_lesson_teaches_the_reviewers_words(
    rita: Person, client: Any, peers: Any
) -> None:
    """The lesson says what the reviewer said, without secrets; what was sent stays for audit."""
    generation = await peers.generate(answer="It is Nebelsbad.")
    sent = await rita.named("anna").correct(generation, OVERRIDE)

    same = await refused(rita.amend(item_of(sent), "It is Nebelsbad."))
    empty = await refused(rita.amend(item_of(sent), " "))
    item = await rita.amend(item_of(sent), "Lutz. Ask mara@example.com")
    again = await rita.amend(item_of(sent), "Lutz. Ask mara@example.com")
    other = await refused(rita.amend(item_of(sent), "Zubrow"))
    lesson = await watched(client, sent.lesson, LessonState.RECEIVED)

    assert (same.reason, empty.fields) == ("FEEDBACK_WITHOUT_CHANGE", ["correction.text"])
    assert (item.state, again.state, other.reason) == (AMENDED, AMENDED, "STATE_CONFLICT")
    assert item.feedback_event.correction.text == OVERRIDE
    assert "mara@example.com" not in str(item)
    assert lesson.answer == item.amended_correction.text
    assert lesson.answer.startswith("Lutz")
    assert sent.correction.question == lesson.question


async def test_two_reviewers_who_disagree_at_once_end_in_one_decision(
    rita: Person, peers: Any
) -> None:
    """One wins, the other hears STATE_CONFLICT, and both see the same afterwards."""
    sent = await rita.named("anna").correct(await peers.generate(), OVERRIDE)
    name = item_of(sent)
    answers = await asyncio.gather(
        rita.approve(name), rita.named("rolf").reject(name, "no"), return_exceptions=True
    )

    lost = [refusal_of(a) for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    won = [a for a in answers if not isinstance(a, BaseException)]
    assert [refusal.reason for refusal in lost] == ["STATE_CONFLICT"]
    item = (await rita.call("GetReviewItem", name=name)).review_item
    assert [item.state] == [one.state for one in won]


async def test_nobody_lets_himself_in_or_reviews_without_the_scope(
    rita: Person, peers: Any
) -> None:
    """Own feedback needs feedback.review_own, every RPC feedback.review."""
    sent = await rita.named("anna").correct(await peers.generate(), OVERRIDE)

    own = await refused(rita.named("anna", "feedback.review").approve(item_of(sent)))
    stranger = await refused(rita.named("bo", "feedback.write").items())
    item = await rita.named("anna", "feedback.review feedback.review_own").approve(item_of(sent))

    assert (own.reason, stranger.reason) == ("SCOPE_MISSING", "SCOPE_MISSING")
    assert item.state == APPROVED


async def test_items_are_listed_oldest_first_by_page_state_and_finding(
    rita: Person, peers: Any
) -> None:
    """Each page goes on where the last ended; a token fits its query alone; others see nothing."""
    anna = rita.named("anna")
    sent = [await anna.correct(await peers.generate(), f"{OVERRIDE} {n}") for n in range(3)]
    await rita.reject(item_of(sent[0]), "no")

    first = await rita.call("ListReviewItems", page_size=1)
    rest = await rita.call("ListReviewItems", page_size=1, page_token=first.next_page_token)
    foreign_token = await refused(
        rita.call("ListReviewItems", states=[REJECTED], page_token=first.next_page_token)
    )
    overrides = await rita.call("ListReviewItems", findings=["KIND_INSTRUCTION_OVERRIDE"])
    credentials = await rita.call("ListReviewItems", findings=["KIND_CREDENTIAL"])
    foreign = Person(rita.channel, f"t-{uuid.uuid4().hex[:16]}", "rita")
    absent = await refused(foreign.approve(item_of(sent[1])))

    names = [item.name for page in (first, rest) for item in page.review_items]
    assert [item_of(sent[1]), item_of(sent[2])] == names
    assert (first.total_size, rest.total_size, rest.next_page_token) == (2, 2, "")
    assert foreign_token.reason == "CURSOR_INVALID"
    assert (overrides.total_size, credentials.total_size) == (2, 0)
    assert [item_of(sent[0])] == [item.name for item in await rita.items(REJECTED)]
    assert [item.state for item in overrides.review_items] == [PENDING, PENDING]
    assert (absent.reason, await foreign.items()) == ("RESOURCE_NOT_FOUND", [])


async def test_bad_requests_are_refused_with_all_their_faults(rita: Person) -> None:
    """Names, reasons, ids and states are checked before anything is looked up."""
    bad = await refused(
        rita.call("ApproveReviewItem", name="items/1", reason="x" * 501, request_id="seven")
    )
    listing = await refused(rita.call("ListReviewItems", page_size=-1, adapter="default"))
    amendment = await refused(rita.call("AmendReviewItem", name=""))
    claim = await refused(rita.call("ResolveConflict", name="conflicts/abc"))

    assert sorted(bad.fields) == ["name", "reason", "request_id"]
    assert sorted(listing.fields) == ["adapter", "page_size"]
    assert sorted(amendment.fields) == ["correction.text", "name"]
    assert claim.fields == ["claim_id"]
