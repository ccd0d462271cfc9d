"""WatchLesson over gRPC: the present first, then every step, until nothing more can come."""

import asyncio
import uuid

import grpc

from selm.api.feedback.v1.lesson_pb2 import Lesson

REVISION = "adapters/default/revisions/r0123456789abcdef"
STRAIGHT = [
    ("REMEMBERED", "users/anonymous/memories/m1", "memory_svc"),
    ("QUEUED", "trainingRequests/q1", "feedback_svc"),
    ("TRAINED", REVISION, "trainer_svc"),
    ("VERIFIED", REVISION, "trainer_svc"),
    ("RETIRED", "users/anonymous/memories/m1", "memory_svc"),
]


async def _states(watch) -> list[str]:
    """States of the frames still to come, until the server ends the stream."""
    states = []
    while (frame := await watch.read()) is not grpc.aio.EOF:
        states.append(Lesson.State.Name(frame.lesson.state).removeprefix("STATE_"))
    return states


async def test_every_watcher_sees_every_step_until_retired(client, peers):
    """Fifty watchers, six frames each, and the stream ends by itself."""
    event = (await client.correct(await peers.generate(), "Lutz")).feedback_event
    lesson = await client.lesson(event.lesson)
    watches = [client.watch(lesson.name) for _ in range(50)]
    first = await asyncio.gather(*(watch.read() for watch in watches))
    assert all(frame.lesson == lesson for frame in first)
    for state, resource, service in STRAIGHT:
        await peers.step(lesson, state, resource, service)
    seen = await asyncio.wait_for(asyncio.gather(*map(_states, watches)), 20)
    assert seen == [[state for state, _, _ in STRAIGHT]] * 50
    final = await client.lesson(lesson.name)
    assert final.adapter_revision == REVISION
    assert final.memory == "users/anonymous/memories/m1"
    assert len(final.transitions) == 6


async def test_a_settled_lesson_gives_one_frame(client, peers):
    """A watch of what is over ends at once."""
    event = (await client.correct(await peers.generate(), "Lutz")).feedback_event
    lesson = await client.lesson(event.lesson)
    await peers.step(lesson, "SUPERSEDED", f"lessons/{uuid.uuid4().hex}")
    await asyncio.wait_for(_states(client.watch(lesson.name)), 20)
    assert await asyncio.wait_for(_states(client.watch(lesson.name)), 20) == ["SUPERSEDED"]


async def test_an_unknown_lesson_is_not_found(client):
    """Watching what does not exist fails before the first frame."""
    refused = await client.refusal(_states(client.watch("lessons/none")))
    assert refused.code is grpc.StatusCode.NOT_FOUND


async def test_a_watch_survives_a_restart_of_the_broker(
    client_of, nats_server, own_bus, peers_on, running, tenant
):
    """Steps taken after the restart reach a watcher from before it."""
    peers = peers_on(own_bus)
    async with (
        running(nats_server.url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        event = (await client.correct(await peers.generate(), "Lutz")).feedback_event
        lesson = await client.lesson(event.lesson)
        watch = client.watch(lesson.name)
        assert (await watch.read()).lesson == lesson
        await peers.step(lesson, *STRAIGHT[0])
        assert (await watch.read()).lesson.state == Lesson.STATE_REMEMBERED
        nats_server.kill()
        await asyncio.to_thread(nats_server.start)
        await own_bus.wait_connected()
        for step in STRAIGHT[1:]:
            await peers.step(lesson, *step)
        rest = await asyncio.wait_for(_states(watch), 30)
    assert rest == [state for state, _, _ in STRAIGHT[1:]]


async def test_a_watcher_that_leaves_costs_nothing(client, peers):
    """Cancelled watches are forgotten; the lesson goes on."""
    event = (await client.correct(await peers.generate(), "Lutz")).feedback_event
    lesson = await client.lesson(event.lesson)
    for _ in range(20):
        watch = client.watch(lesson.name)
        await watch.read()
        watch.cancel()
    await peers.step(lesson, *STRAIGHT[0])
    watch = client.watch(lesson.name)
    while (await watch.read()).lesson.state != Lesson.STATE_REMEMBERED:
        pass
    watch.cancel()
