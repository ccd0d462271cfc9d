"""`selm feedback` and the client's batches against the real service."""

import asyncio
import json
import uuid

from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.client import Receipt, SelmClient
from selm.errors import SelmError
from selm.testing import eventually


async def test_what_is_said_can_be_listed_and_exported(selm, peers, tmp_path):
    """Newest first in a list, oldest first in a file, whole and parsable."""
    generation = await peers.generate()
    await selm("feedback", "thumbs", generation, "down")
    await selm("feedback", "comment", "conversations/c1", "Slow.")
    shown = await selm("feedback", "correct", generation, "Lutz", "-o", "json")
    correction = json.loads(shown)
    listed = [
        json.loads(line) for line in (await selm("feedback", "ls", "-o", "json")).splitlines()
    ]
    assert [event["kind"].removeprefix("FEEDBACK_KIND_") for event in listed] == [
        "CORRECTION",
        "COMMENT",
        "THUMBS",
    ]
    table = await selm("feedback", "ls", "--kind", "comment")
    assert "Slow." in table
    assert correction["name"] not in table
    assert "What is the capital of Zubrowka? -> Lutz" in await selm(
        "feedback", "get", correction["name"]
    )
    assert correction["lesson"] in await selm("lessons", "ls", "--state", "received")
    file = tmp_path / "feedback.jsonl"
    assert "3 events" in await selm("feedback", "export", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["name"] for line in lines] == [event["name"] for event in listed[::-1]]
    assert lines[2]["exchange"]["answer"] == "It is Nebelsbad."
    assert not file.with_name("feedback.jsonl.part").exists()


async def test_what_was_recorded_is_delivered_again(selm, peers):
    """From a sequence on, to the one it is for; as JSON too."""
    generation = await peers.generate()
    events = [(await selm.client.correct(generation, f"Lutz {n}")).feedback_event for n in (1, 2)]
    assert "replayed  2" in await selm("feedback", "replay", "--from", str(events[0].sequence))
    last = ("--from", str(events[1].sequence), "--to", str(events[1].sequence))
    told = json.loads(await selm("feedback", "replay", *last, "-o", "json"))
    assert told == {"replayCount": "1"}
    await selm("feedback", "replay", *last, "--consumer", "nobody", exit_code=64 + 3)
    await selm("feedback", "replay", "--from", "0", exit_code=2)


async def test_words_that_are_no_kind_are_refused(selm):
    """Before anything is sent."""
    await selm("feedback", "ls", "--kind", "shouting", exit_code=2)
    await selm("feedback", "ls", "--state", "lost", exit_code=2)
    await selm("lessons", "ls", "--state", "lost", exit_code=2)


async def test_the_client_sends_many_at_once(selm, peers, tenant):
    """More than one batch holds; each has its receipt or its reason, in order, and once."""
    generation = await peers.generate()
    events = [
        pb.FeedbackEvent(generation=generation, comment=pb.Comment(text=str(number)))
        for number in range(510)
    ]
    events[7] = pb.FeedbackEvent(generation=generation, correction=pb.Correction(text="Nebelsbad"))
    events[7].correction.text = "it is nebelsbad"
    ids = [str(uuid.uuid4()) for _ in events]
    async with SelmClient(feedback=selm.address, tenant=tenant) as client:
        outcomes = await client.give_feedback_batch(events, request_ids=ids)
        again = await client.give_feedback_batch(events, request_ids=ids)
        lines = [line async for line in client.export_feedback()]
    assert isinstance(outcomes[7], SelmError)
    assert outcomes[7].reason == "FEEDBACK_WITHOUT_CHANGE"
    receipts = [one for one in outcomes if isinstance(one, Receipt)]
    assert [one.feedback_event.comment.text for one in receipts] == [
        str(number) for number in range(510) if number != 7
    ]
    assert [one.feedback_event.name for one in again if isinstance(one, Receipt)] == [
        one.feedback_event.name for one in receipts
    ]
    assert len(lines) == len(await peers.recorded()) == 509


async def test_the_client_watches_through_a_restart(child, client_of, nats_url, tenant):
    """It keeps the token of the last frame, so nothing is missed and nothing comes twice."""
    service = child(nats_url)
    heard: list[str] = []

    async def watch(selm):
        async for event in selm.watch_feedback(pb.FeedbackFilter(first_sequence=1)):
            heard.append(event.comment.text)

    async def say(text):
        async with client_of(service.address, tenant) as client:
            await client.wait_ready()
            await client.create(conversation="conversations/c1", comment=pb.Comment(text=text))

    async def has_heard(*texts):
        async def heard_all():
            return heard == list(texts)

        await eventually(heard_all)

    await service.start()
    async with SelmClient(feedback=service.address, tenant=tenant, patience_s=30) as selm:
        watching = asyncio.create_task(watch(selm))
        await say("one")
        await has_heard("one")
        await service.kill()
        await service.start()
        await say("two")
        await has_heard("one", "two")
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
