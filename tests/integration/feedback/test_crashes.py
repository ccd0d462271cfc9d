"""Nothing acknowledged is lost and nothing counts twice, whoever is killed when."""

import asyncio
import os
import random
import signal
import uuid

import grpc
import pytest

from selm import streams
from selm.bus import Bus
from selm.bus_errors import broker_errors
from selm.testing import eventually

CRASHES = ["before_publish", "after_publish"]


@pytest.mark.parametrize("crash", CRASHES)
async def test_a_retry_after_a_crash_makes_exactly_one_event(
    crash, child, client_of, nats_url, peers, tenant
):
    """Killed before or after the write, the same request_id ends in the same single event."""
    generation, request_id = await peers.generate(), str(uuid.uuid4())
    service = child(nats_url)
    await service.start(f"feedback.{crash}=exit(137)")
    async with client_of(service.address, tenant) as client:
        await client.wait_ready()
        refused = await client.refusal(client.correct(generation, "Lutz", request_id=request_id))
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert await service.died() == 137
        await service.start()
        await client.wait_ready()
        reply = await client.correct(generation, "Lutz", request_id=request_id)
        assert await client.correct(generation, "Lutz", request_id=request_id) == reply
        refused = await client.refusal(client.correct(generation, "Linz", request_id=request_id))
        assert refused.reason == "REQUEST_ID_REUSED"
    [stored] = await peers.recorded()
    assert stored.feedback_event.name == reply.feedback_event.name


async def test_a_retry_long_after_the_crash_still_makes_one_event(
    child, client_of, own_bus, nats_server, peers_on, tenant
):
    """The broker forgets message ids after an hour; what is stored is never forgotten."""
    peers = peers_on(own_bus)
    generation, request_id = await peers.generate(), str(uuid.uuid4())
    service = child(nats_server.url)
    await service.start("feedback.after_publish=exit(137)")
    async with client_of(service.address, tenant) as client:
        await client.wait_ready()
        await client.refusal(client.correct(generation, "Lutz", request_id=request_id))
        await service.died()
        await _forget_message_ids(own_bus)
        await service.start()
        await client.wait_ready()
        reply = await client.correct(generation, "Lutz", request_id=request_id)
    [stored] = await peers.recorded()
    assert stored.feedback_event.name == reply.feedback_event.name


async def _forget_message_ids(bus: Bus) -> None:
    """As if the window had passed: the broker accepts the same message id as new again."""
    jetstream = bus.connection.jetstream()
    config = (await jetstream.stream_info(streams.FEEDBACK.name)).config
    config.duplicate_window = 0.1
    with broker_errors():
        await jetstream.update_stream(config)
    await asyncio.sleep(0.5)


async def test_killing_the_broker_during_creates_loses_and_doubles_nothing(
    client_of, nats_server, own_bus, peers_on, running, tenant
):
    """What was acknowledged is stored once; what failed is stored once after its retry."""
    peers = peers_on(own_bus)
    generations = [await peers.generate() for _ in range(5)]
    acknowledged: dict[str, str] = {}

    async def say(client, number: int) -> None:
        request_id = str(uuid.uuid4())
        while True:
            try:
                reply = await client.correct(
                    generations[number % 5], f"answer {number}", request_id=request_id
                )
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                await asyncio.sleep(random.uniform(0.05, 0.2))
                continue
            acknowledged[reply.feedback_event.name] = f"answer {number}"
            return

    async def speak(client, worker: int) -> None:
        for number in range(worker, 160, 8):
            await say(client, number)

    async with (
        running(nats_server.url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        speaking = asyncio.gather(*(speak(client, worker) for worker in range(8)))
        for _ in range(3):
            await asyncio.sleep(0.15)
            nats_server.kill()
            await asyncio.to_thread(nats_server.start)
        await asyncio.wait_for(speaking, 60)
        stored = [message.feedback_event for message in await _recorded(peers)]
        assert len(acknowledged) == len(stored) == 160
        assert {event.name: event.correction.text for event in stored} == acknowledged
        for name in list(acknowledged)[:10]:
            assert (await client.event(name)).name == name


async def _recorded(peers):
    """Read back, once the test's own connection has found the broker again."""
    await peers.bus.wait_connected()
    return await peers.recorded()


async def test_without_a_broker_feedback_is_unavailable_and_says_when_to_retry(
    client_of, nats_server, own_bus, peers_on, running, tenant
):
    """Down is told at once; a broker that hangs is told within the deadline of this call."""
    generation = await peers_on(own_bus).generate()
    async with (
        running(nats_server.url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        event = (await client.correct(generation, "Lutz")).feedback_event
        nats_server.kill()
        down = await client.refusal(client.correct(generation, "Linz", timeout=3))
        # What is known is still served.
        assert await client.event(event.name) == event
        unknown = await client.refusal(client.event("feedbackEvents/unknown"))
        await asyncio.to_thread(nats_server.start)
        await eventually(lambda: _succeeds(client, generation))
        os.kill(nats_server._process.pid, signal.SIGSTOP)
        try:
            retried = {"request_id": str(uuid.uuid4()), "timeout": 3}
            hung = await client.refusal(client.correct(generation, "Graz", **retried))
        finally:
            os.kill(nats_server._process.pid, signal.SIGCONT)
    for refused in (down, unknown, hung):
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert refused.reason == "BUS_UNAVAILABLE"
        assert refused.retry_after_s > 0


async def _succeeds(client, generation: str) -> bool:
    try:
        await client.correct(generation, f"Lutz, asked {uuid.uuid4()}")
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_the_service_starts_before_the_broker(
    client_of, nats_server, peers_on, running, tenant
):
    """It waits, says so, and is ready when the broker comes."""
    nats_server.stop()
    async with (
        running(nats_server.url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        refused = await client.refusal(client.correct("generations/any", "Lutz", timeout=3))
        assert refused.reason == "BUS_UNAVAILABLE"
        nats_server.start()
        await client.wait_ready()


async def test_everything_is_there_after_a_restart_of_the_service(
    client_of, nats_url, peers, running, tenant
):
    """Events, lessons and steps are folded again from the streams."""
    generation = await peers.generate()
    async with (
        running(nats_url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        event = (await client.correct(generation, "Lutz")).feedback_event
        await peers.remember(await client.lesson(event.lesson))
        await eventually(lambda: _has_steps(client, event.lesson, 2))
        lesson = await client.lesson(event.lesson)
    async with (
        running(nats_url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        assert await client.event(event.name) == event
        assert await client.lesson(event.lesson) == lesson


async def _has_steps(client, name: str, num_steps: int) -> bool:
    return len((await client.lesson(name)).transitions) == num_steps
