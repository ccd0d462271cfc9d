"""WatchFeedbackEvents: from the present, from a sequence, from a token; decided events; bounds."""

import asyncio
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import grpc
import pytest

from feedback_svc import core
from feedback_svc.events import Codec
from feedback_svc.reading import reader as reading
from feedback_svc.reading.changes import Changes
from feedback_svc.reading.reader import Reader
from feedback_svc.render.export import render_line
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from selm import streams
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.errors import SelmError
from selm.group_commit import GroupCommitter
from selm.tasks import end_tasks
from selm.testing import eventually
from tests.integration.feedback.feedback_client import refusal_of
from tests.integration.feedback.reading_client import (
    EventWatcher,
    batch,
    exported,
    list_events,
)


async def say(client, text="x", **fields):
    """One comment about one conversation."""
    fields = {"conversation": "conversations/c1", "comment": pb.Comment(text=text), **fields}
    return (await client.create(**fields)).feedback_event


async def test_a_watch_starts_at_the_present(client):
    """What was said before is a list's business."""
    await say(client, "before")
    async with EventWatcher(client) as watcher:

        async def hears() -> bool:
            await say(client, f"hello {uuid.uuid4()}")
            return bool(watcher.frames)

        await eventually(hears)
        last = await say(client, "after")

        async def heard() -> bool:
            return last in watcher.events

        await eventually(heard)
    texts = [event.comment.text for event in watcher.events]
    assert "before" not in texts
    sequences = [event.sequence for event in watcher.events]
    assert sequences == sorted(set(sequences))


async def test_a_watch_from_a_sequence_brings_history_then_what_comes(client):
    """In order, each once."""
    events = [await say(client, str(n)) for n in range(5)]
    async with EventWatcher(client, first_sequence=events[1].sequence) as watcher:
        await watcher.has(4)
        events.append(await say(client, "new"))
        await watcher.has(5)
    assert watcher.events == events[1:]


async def test_a_broken_watch_goes_on_behind_its_last_frame(client, client_of, nats_url, running):
    """Nothing is missed, also by another process of the service."""
    events = [await say(client, str(n)) for n in range(3)]
    async with EventWatcher(client, first_sequence=1) as watcher:
        await watcher.has(3)
    for index in range(2):
        token = watcher.frames[index].resume_token
        async with EventWatcher(client, token, first_sequence=1) as again:
            await again.has(2 - index)
        assert again.events == events[index + 1 :]
    events.append(await say(client, "while away"))
    async with (
        running(nats_url, training_paused=True) as address,
        client_of(address, client.tenant) as other,
    ):
        await other.wait_ready()
        async with EventWatcher(other, watcher.token, first_sequence=1) as again:
            events.append(await say(client, "live"))
            await again.has(2)
    assert again.events == events[3:]


async def test_a_filter_leaves_out_what_does_not_match(client):
    """And the token still goes on behind what was left out."""
    await say(client, "a")
    async with EventWatcher(client, first_sequence=1, user="users/bo") as watcher:
        mine = await say(client, "b", user="users/bo")
        await say(client, "c")
        await watcher.has(1)
    assert watcher.events == [mine]


async def test_other_tenants_are_not_heard(client, client_of):
    """Their sequences lie between, their events do not."""
    foreign = type(client)(client.channel, f"t-{uuid.uuid4().hex[:16]}")
    first = await say(client, "mine")
    await say(foreign, str(uuid.uuid4()))
    async with EventWatcher(client, first_sequence=1) as watcher:
        second = await say(client, "mine too")
        await watcher.has(2)
    assert watcher.events == [first, second]


async def test_a_token_of_another_query_is_refused(client):
    """As is an altered one."""
    await say(client)
    async with EventWatcher(client, first_sequence=1) as watcher:
        await watcher.has(1)
    for token, conditions in ((watcher.token, {}), (watcher.token[:-2] + "AA", {})):
        call = EventWatcher(client, token, **conditions).call
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert refusal_of(caught.value).reason == "CURSOR_INVALID"


async def test_a_decided_event_comes_again(client, bus, tenant):
    """As it is after the decision, with its own sequence; a list shows it in its place."""
    async with EventWatcher(client, first_sequence=1) as watcher:
        event = await say(client, "hello")
        other = await say(client, "world")
        await watcher.has(2)
        await _decide(bus, tenant, event, core.EventState.REJECTED)
        await watcher.has(3)
        async with EventWatcher(client, watcher.frames[1].resume_token, first_sequence=1) as again:
            await again.has(1)
    assert [frame.name for frame in watcher.events] == [event.name, other.name, event.name]
    decided = watcher.events[2]
    assert decided.state == pb.FeedbackEvent.STATE_REJECTED
    assert decided.sequence == event.sequence
    assert again.events == [decided]
    assert await client.event(event.name) == decided
    assert list((await list_events(client)).feedback_events) == [other, decided]
    lines = await exported(client)
    assert [line["state"] for line in lines] == ["STATE_REJECTED", "STATE_ACCEPTED"]
    rejected = {"states": [pb.FeedbackEvent.STATE_REJECTED]}
    assert await exported(client, **rejected) == lines[:1]


async def _decide(bus, tenant, event, state):
    """Publish a decision on a stored event, as a reviewer's replica does."""
    codec = Codec()
    stored = await bus.get(streams.FEEDBACK.name, event.sequence)
    record, _ = codec.feedback(stored)
    decision = core.Decision("reviewer", "spam", datetime.now(UTC))
    decided = replace(record, state=state, num_decisions=1, decision=decision)
    await bus.publish(
        stored.subject, codec.feedback_decided(stored, decided), message_id=f"{event.name}:1"
    )


@asynccontextmanager
async def reader_on(bus, **options):
    """The reading room on a real journal, without gRPC in between."""
    committer = GroupCommitter(bus, streams.FEEDBACK.name)
    stream = EventStream(bus, Codec(), committer, 5.0)
    journal = Journal(stream, Codec(), 5.0)
    changes = Changes()
    journal.event_book.listen(changes.hear)
    tasks = [asyncio.create_task(one) for one in (committer.run(), *journal.followers(bus))]
    try:

        async def is_ready() -> bool:
            return journal.is_ready

        await eventually(is_ready)
        yield Reader(journal, stream, changes, render_line, **options)
    finally:
        await end_tasks(tasks)


async def test_only_so_many_watches_are_open(bus, tenant):
    """One more is told to come later; a place that is left can be taken."""
    wanted = core.EventFilter()
    async with reader_on(bus, max_watchers=1) as reader:
        first = reader.watch(tenant, wanted, None)
        waiting = asyncio.create_task(anext(first))
        await asyncio.sleep(0.1)
        with pytest.raises(SelmError) as caught:
            await anext(reader.watch(tenant, wanted, None))
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_after_s
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(reader.watch(tenant, wanted, None)), 0.1)


async def test_a_watcher_that_does_not_read_is_let_go(client, bus, tenant, monkeypatch):
    """It learns so when it reads again, and goes on with its token."""
    monkeypatch.setattr(reading, "MAX_CHANGES_BEHIND", 300)
    async with reader_on(bus) as reader:
        watch = reader.watch(tenant, core.EventFilter(), None)
        first = asyncio.create_task(anext(watch))
        await asyncio.sleep(0.1)
        said = [
            {"conversation": f"conversations/c{n}", "comment": pb.Comment(text="x")}
            for n in range(700)
        ]
        await say(client, "first")
        news = await asyncio.wait_for(first, 5)
        for start in (0, 350):
            await batch(client, *said[start : start + 350])
        last = await say(client, "last")

        async def caught_up() -> bool:
            return bool(
                await reader.list(tenant, core.EventFilter(first_sequence=last.sequence), None, 1)
            )

        await eventually(caught_up)
        with pytest.raises(SelmError) as caught:
            while True:
                await asyncio.wait_for(anext(watch), 5)
        assert caught.value.reason == "CLIENT_TOO_SLOW"
        again = reader.watch(tenant, core.EventFilter(), news.position)
        names = {(await anext(again)).record.name for _ in range(701)}
        assert len(names) == 701
        assert last.name in names
