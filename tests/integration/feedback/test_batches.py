"""BatchCreateFeedbackEvents: each signal on its own, in order, once."""

import uuid

import grpc
import pytest

from selm import consistency
from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.feedback_service_pb2 import CreateFeedbackEventRequest
from tests.integration.feedback.reading_client import batch, list_events, send_batch


def outcomes(reply):
    """The name of each recorded event, or the reason why there is none."""
    return [
        result.feedback_event.name
        or ErrorReason.Name(result.failure.reason).removeprefix("ERROR_REASON_")
        for result in reply.results
    ]


async def test_every_kind_of_signal_can_be_sent_at_once(client, peers):
    """Results in order, the token covers all, and a list has every one."""
    generation = await peers.generate()
    about = {"generation": generation}
    reply = await batch(
        client,
        {**about, "rating": pb.Rating(value=2)},
        {**about, "correction": pb.Correction(text="Lutz")},
        {**about, "preference": pb.Preference(chosen_text="Lutz")},
        {**about, "comment": pb.Comment(text="Wrong.")},
        {**about, "implicit": pb.Implicit(action=pb.Implicit.ACTION_REGENERATED)},
        {"conversation": "conversations/c1", "thumbs": pb.THUMBS_UP},
    )
    events = [result.feedback_event for result in reply.results]
    kinds = [2, 3, 4, 5, 6, 1]
    assert [event.kind for event in events] == kinds
    assert events[2].preference.rejected_text == "It is Nebelsbad."
    assert events[1].lesson
    newest = max(event.sequence for event in events)
    assert consistency.decode(reply.consistency_token) == newest
    listed = (await list_events(client)).feedback_events
    assert {event.name for event in listed} == {event.name for event in events}
    assert len(await peers.recorded()) == 6


async def test_what_fails_keeps_nothing_else_from_being_recorded(client, peers):
    """Each refusal is the one that the single call would answer."""
    generation = await peers.generate()
    about = {"generation": generation}
    reply = await batch(
        client,
        {**about, "rating": pb.Rating(value=9)},
        {**about, "thumbs": pb.THUMBS_DOWN},
        {"generation": "generations/none", "thumbs": pb.THUMBS_DOWN},
        {**about, "correction": pb.Correction(text="it is nebelsbad")},
        {**about, "correction": pb.Correction(text="Lutz"), "adapter": "adapters/none"},
        {**about, "comment": pb.Comment(text="Wrong."), "request_id": ""},
        {**about, "comment": pb.Comment(text="Wrong."), "request_id": "7"},
    )
    found = outcomes(reply)
    assert found[0] == "INVALID_FIELD"
    assert found[1].startswith("feedbackEvents/")
    assert found[2:] == [
        "RESOURCE_NOT_FOUND",
        "FEEDBACK_WITHOUT_CHANGE",
        "ADAPTER_NOT_FOUND",
        "INVALID_FIELD",
        "INVALID_FIELD",
    ]
    assert reply.results[0].failure.metadata["fields"] == "feedback_event.rating.value"
    assert reply.results[5].failure.metadata["fields"] == "request_id"
    [stored] = await peers.recorded()
    assert stored.feedback_event.name == found[1]


async def test_the_whole_batch_can_be_sent_again(client, peers):
    """Every signal counts once, and the reply is the same."""
    generation = await peers.generate()
    items = [
        {"generation": generation, "rating": pb.Rating(value=n), "request_id": str(uuid.uuid4())}
        for n in (0, 1, 2)
    ]
    first = await batch(client, *items)
    assert await batch(client, *items) == first
    one = await client.create(**items[1])
    assert one.feedback_event == first.results[1].feedback_event
    assert len(await peers.recorded()) == 3


async def test_an_id_twice_in_a_batch_is_one_event_or_reused(client, peers):
    """The first of them settles what the id stands for."""
    generation, request_id = await peers.generate(), str(uuid.uuid4())
    item = {"generation": generation, "comment": pb.Comment(text="a"), "request_id": request_id}
    reply = await batch(client, item, item, {**item, "comment": pb.Comment(text="b")}, item)
    found = outcomes(reply)
    assert found[0] == found[1] == found[3]
    assert found[2] == "REQUEST_ID_REUSED"
    [stored] = await peers.recorded()
    assert stored.feedback_event.comment.text == "a"


async def test_the_same_words_under_two_ids_are_a_duplicate(client, peers):
    """The first is recorded, and the other one says which that is."""
    item = {"generation": await peers.generate(), "comment": pb.Comment(text="a")}
    reply = await batch(client, item, item)
    [stored] = await peers.recorded()
    assert outcomes(reply) == [stored.feedback_event.name, "FEEDBACK_DUPLICATE"]
    assert reply.results[1].failure.metadata["feedback_event"] == stored.feedback_event.name


async def test_what_contradicts_itself_is_refused(client, peers):
    """Praise beside a correction, and praise beside blame; the rest stands."""
    about, other = {"generation": await peers.generate()}, {"generation": await peers.generate()}
    reply = await batch(
        client,
        {**about, "thumbs": pb.THUMBS_UP},
        {**about, "correction": pb.Correction(text="Lutz")},
        {**other, "thumbs": pb.THUMBS_UP},
        {**other, "rating": pb.Rating(value=0)},
    )
    found = outcomes(reply)
    assert (found[0], found[3]) == ("FEEDBACK_CONTRADICTORY", "FEEDBACK_CONTRADICTORY")
    assert dict(reply.results[0].failure.metadata) == {
        "signal": "thumbs",
        "conflicts_with": "correction",
    }
    assert dict(reply.results[3].failure.metadata) == {
        "signal": "rating",
        "conflicts_with": "thumbs",
    }
    stored = {message.feedback_event.name for message in await peers.recorded()}
    assert stored == {found[1], found[2]}


async def test_what_was_recorded_before_answers_as_it_did(client, peers):
    """Sent again beside what contradicts it; and what was refused stays refused."""
    about, other = {"generation": await peers.generate()}, {"generation": await peers.generate()}
    praise, blame = (
        {**one, "thumbs": thumbs, "request_id": str(uuid.uuid4())}
        for one, thumbs in ((about, pb.THUMBS_UP), (other, pb.THUMBS_DOWN))
    )
    before = [(await client.create(**one)).feedback_event.name for one in (praise, blame)]
    correction = {**about, "correction": pb.Correction(text="Lutz")}
    items = [
        {**one, "request_id": one.get("request_id", str(uuid.uuid4()))}
        for one in (correction, praise, {**other, "thumbs": pb.THUMBS_UP}, blame)
    ]
    reply = await batch(client, *items)
    assert outcomes(reply)[1:] == [before[0], "FEEDBACK_CONTRADICTORY", before[1]]
    assert outcomes(reply)[0].startswith("feedbackEvents/")
    assert outcomes(await batch(client, *items)) == outcomes(reply)
    assert len(await peers.recorded()) == 3


@pytest.mark.parametrize("size", [0, 501])
async def test_a_batch_holds_one_to_five_hundred(client, size):
    """Any other number is refused as a whole."""
    refused = await client.refusal(send_batch(client, [CreateFeedbackEventRequest()] * size))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["requests"]


async def test_five_hundred_are_recorded_in_order(client, peers):
    """Side by side, each once, and the reply fits into a message."""
    generation = await peers.generate()
    items = [{"generation": generation, "comment": pb.Comment(text=f"{n}")} for n in range(500)]
    reply = await batch(client, *items)
    texts = [result.feedback_event.comment.text for result in reply.results]
    assert texts == [str(n) for n in range(500)]
    assert len(await peers.recorded()) == 500
