"""ListFeedbackEvents, ExportFeedbackEvents and ListLessons against a real nats-server."""

import asyncio
import uuid

import pytest

from selm import streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackErased
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.testing import eventually
from tests.integration.feedback.reading_client import (
    all_pages,
    export,
    exported,
    list_events,
    list_lessons,
)


@pytest.fixture
async def said(client, peers):
    """One event of every kind, in this order, and the generation they are about."""
    generation = await peers.generate()
    edited = pb.Implicit(action=pb.Implicit.ACTION_EDITED, edited_text="Lutz.")
    signals = [
        {"generation": generation, "thumbs": pb.THUMBS_DOWN, "labels": {"app": "web"}},
        {"generation": generation, "rating": pb.Rating(value=1)},
        {"generation": generation, "correction": pb.Correction(text="Lutz")},
        {"generation": generation, "preference": pb.Preference(chosen_text="Lutz")},
        {"conversation": "conversations/c1", "comment": pb.Comment(text="Slow today.")},
        {"conversation": "conversations/c1", "implicit": edited, "user": "users/bo"},
    ]
    events = [(await client.create(**signal)).feedback_event for signal in signals]
    return generation, events


async def test_events_are_listed_newest_first_in_pages(client, said):
    """Every one once, whatever is recorded between two pages."""
    _, events = said
    assert list((await list_events(client)).feedback_events) == events[::-1]
    first = await list_events(client, 4)
    await client.create(conversation="conversations/c2", thumbs=pb.THUMBS_UP)
    second = await list_events(client, 4, first.next_page_token)
    assert [*first.feedback_events, *second.feedback_events] == events[::-1]
    assert second.next_page_token == ""


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        ({"kinds": [pb.FEEDBACK_KIND_THUMBS, pb.FEEDBACK_KIND_COMMENT]}, [4, 0]),
        ({"conversation": "conversations/c1"}, [5, 4]),
        ({"labels": {"app": "web"}}, [0]),
        ({"labels": {"app": "cli"}}, []),
        ({"user": "users/bo"}, [5]),
        ({"author": "anonymous", "kinds": [pb.FEEDBACK_KIND_RATING]}, [1]),
        ({"author": "nobody"}, []),
        ({"adapter": "adapters/default", "kinds": [pb.FEEDBACK_KIND_PREFERENCE]}, [3]),
        ({"min_consent": pb.CONSENT_SHARED_ADAPTER, "user": "users/bo"}, [5]),
        ({"states": [pb.FeedbackEvent.STATE_REJECTED]}, []),
    ],
)
async def test_a_filter_leaves_out_what_does_not_match(client, said, conditions, wanted):
    """All its conditions hold for what is listed, page by page."""
    _, events = said
    pages = await all_pages(client, 1, **conditions)
    found = [event.name for page in pages for event in page.feedback_events]
    assert found == [events[index].name for index in wanted]


async def test_sequences_bound_a_list(client, said):
    """Both ends belong to it."""
    generation, events = said
    bounds = {"first_sequence": events[1].sequence, "last_sequence": events[3].sequence}
    found = (await list_events(client, generation=generation, **bounds)).feedback_events
    assert list(found) == events[3:0:-1]


async def test_every_violated_field_of_a_filter_is_told(client):
    """A page token of another query, or of another tenant, is CURSOR_INVALID."""
    refused = await client.refusal(
        list_events(
            client,
            -1,
            kinds=[0],
            states=[9],
            generation="g1",
            adapter="a",
            min_consent=7,
            first_sequence=-1,
        )
    )
    assert refused.reason == "INVALID_FIELD"
    assert refused.fields == [
        "filter.kinds",
        "filter.states",
        "filter.generation",
        "filter.adapter",
        "filter.min_consent",
        "filter.first_sequence",
        "page_size",
    ]


async def test_tokens_fit_their_query_and_tenant_alone(client, said):
    """Whoever holds one of another query has nothing."""
    page = await list_events(client, 1)
    token = (await anext(aiter(export(client)))).resume_token
    for call in (
        list_events(client, 1, page.next_page_token, user="users/bo"),
        list_events(client, 1, token),
        exported(client, token, user="users/bo"),
        exported(client, page.next_page_token),
    ):
        assert (await client.refusal(call)).reason == "CURSOR_INVALID"
    client.tenant = f"t-{uuid.uuid4().hex[:16]}"
    assert (await client.refusal(list_events(client, 1, page.next_page_token))).reason == (
        "CURSOR_INVALID"
    )
    assert (await client.refusal(exported(client, token))).reason == "CURSOR_INVALID"
    assert (await list_events(client)).feedback_events == []
    assert await exported(client) == []


async def test_an_export_holds_the_exchange_oldest_first(client, said):
    """One line per event; a conversation has no exchange of its own."""
    _, events = said
    lines = await exported(client)
    assert [line["name"] for line in lines] == [event.name for event in events]
    assert lines[2]["correction"]["text"] == "Lutz"
    assert lines[2]["exchange"]["answer"] == "It is Nebelsbad."
    assert lines[2]["exchange"]["input"]["chat"]["messages"] == [
        {"role": "ROLE_USER", "text": "What is the capital of Zubrowka?"}
    ]
    assert "exchange" not in lines[4]
    filtered = await exported(client, kinds=[pb.FEEDBACK_KIND_COMMENT])
    assert filtered == [lines[4]]


async def test_a_broken_export_goes_on_and_holds_what_was_there_at_its_start(client, said):
    """What is recorded later belongs to the next export."""
    _, events = said
    call = export(client)
    frames = [await anext(aiter(call)) for _ in range(2)]
    call.cancel()
    await client.create(conversation="conversations/late", thumbs=pb.THUMBS_UP)
    rest = await exported(client, frames[-1].resume_token)
    assert [line["name"] for line in rest] == [event.name for event in events[2:]]
    assert len(await exported(client)) == len(events) + 1


async def test_erased_events_are_listed_only_when_asked_for(client, bus, tenant, said):
    """In pages like all others, also where nobody knows any more when they were recorded."""
    _, events = said
    purged = [f"feedbackEvents/{number}" for number in range(5)] + [events[0].name]
    erased = FeedbackErased(events=[{"feedback_event": name} for name in purged])
    await bus.publish(streams.feedback_erased(tenant), erased, message_id=uuid.uuid4().hex)
    wanted = {"states": [pb.FeedbackEvent.STATE_ERASED]}

    async def is_heard() -> bool:
        return len((await list_events(client, **wanted)).feedback_events) == 6

    await eventually(is_heard)
    pages = await all_pages(client, 2, **wanted)
    found = [event.name for page in pages for event in page.feedback_events]
    assert found == [events[0].name, *purged[4::-1]]
    assert list((await list_events(client)).feedback_events) == events[:0:-1]
    assert [line["name"] for line in await exported(client)] == [e.name for e in events[1:]]


async def test_lessons_are_listed_last_changed_first(client, peers, said):
    """In pages, and by state, adapter and user."""
    _, events = said
    generation = await peers.generate(question="Which river?", answer="The Ooz.")
    newer = (await client.correct(generation, "The Nebel.", user="users/bo")).feedback_event
    older = events[2]
    assert [lesson.name for lesson in (await list_lessons(client)).lessons] == [
        newer.lesson,
        older.lesson,
    ]
    await peers.remember(await client.lesson(older.lesson))

    async def is_first() -> bool:
        return (await list_lessons(client)).lessons[0].name == older.lesson

    await eventually(is_first)
    first = await list_lessons(client, 1)
    second = await list_lessons(client, 1, first.next_page_token)
    assert [first.lessons[0].name, second.lessons[0].name] == [older.lesson, newer.lesson]
    assert second.next_page_token == ""
    for conditions, found in (
        ({"states": [Lesson.STATE_REMEMBERED]}, [older.lesson]),
        ({"user": "users/bo"}, [newer.lesson]),
        ({"adapter": "adapters/default"}, [older.lesson, newer.lesson]),
        ({"adapter": "adapters/other"}, []),
        ({"training_job": "trainingJobs/none"}, []),
    ):
        lessons = (await list_lessons(client, **conditions)).lessons
        assert [lesson.name for lesson in lessons] == found
    refused = await client.refusal(list_lessons(client, states=[0], user="bo", adapter="A"))
    assert refused.fields == ["filter.states", "filter.adapter", "filter.user"]
    refused = await client.refusal(list_lessons(client, 1, first.next_page_token, user="users/bo"))
    assert refused.reason == "CURSOR_INVALID"


async def test_a_list_sees_what_was_just_acknowledged(client, peers):
    """However many are recorded side by side."""
    generation = await peers.generate()
    replies = await asyncio.gather(
        *(client.create(generation=generation, rating=pb.Rating(value=n / 10)) for n in range(40))
    )
    names = {reply.feedback_event.name for reply in replies}
    pages = await all_pages(client, 7)
    found = [event for page in pages for event in page.feedback_events]
    assert {event.name for event in found} == names
    sequences = [event.sequence for event in found]
    assert sequences == sorted(set(sequences), reverse=True)
