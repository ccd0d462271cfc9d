"""F-22: a process is frozen and thawed, and everything still counts once.

Frozen for 3 s instead of 60 s: twice the service's time limit for the bus (BUS_TIMEOUT_S, 1.5 s,
here less), which is all that it waits for. The broker pings its clients every 2 minutes only, so a
longer sleep would show nothing else.
"""

import asyncio
import os
import signal
import uuid

import grpc

from tests.feedback_chaos.faulty import (
    feedback_process,
    names_stored,
    timed,
    until_ok,
)

_FROZEN_S = 3.0


async def test_a_frozen_service_answers_after_it_wakes(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """Callers whose deadline passed repeat with the same id; nothing is lost or doubled."""
    peers = peers_on(own_bus)
    generation = await peers.generate()

    async def speak(client, worker: int) -> list[str]:
        names = []
        for number in range(10):
            request_id = str(uuid.uuid4())
            reply = await until_ok(
                lambda request_id=request_id, number=number: client.create(
                    request_id=request_id,
                    timeout=1,
                    generation=generation,
                    rating={"value": worker + number / 10, "max_value": 10},
                )
            )
            names.append(reply.feedback_event.name)
            await asyncio.sleep(0.05)
        return names

    async with (
        feedback_process(tmp_path, nats_server.options.port) as service,
        client_of(service.target, tenant) as client,
    ):
        speaking = [asyncio.create_task(speak(client, worker)) for worker in range(8)]
        await asyncio.sleep(0.2)
        service.send(signal.SIGSTOP)
        await asyncio.sleep(_FROZEN_S)
        assert not any(task.done() for task in speaking)
        service.send(signal.SIGCONT)
        names = [name for names in await asyncio.gather(*speaking) for name in names]
    assert sorted(await names_stored(peers)) == sorted(names)
    assert len(set(names)) == 80


async def test_a_frozen_broker_is_unavailable_in_time_and_forgets_nothing(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """Told within the time limit of the bus, however long the caller would wait."""
    peers = peers_on(own_bus)
    generation, request_id = await peers.generate(), str(uuid.uuid4())
    async with (
        feedback_process(tmp_path, nats_server.options.port, bus_timeout_s="0.5") as service,
        client_of(service.target, tenant) as client,
    ):

        def create(timeout: float):
            return client.create(
                request_id=request_id, timeout=timeout, generation=generation, thumbs=1
            )

        os.kill(nats_server._process.pid, signal.SIGSTOP)
        try:
            refused, took_s = await timed(client.refusal(create(10)))
            await asyncio.sleep(_FROZEN_S)
        finally:
            os.kill(nats_server._process.pid, signal.SIGCONT)
        reply = await until_ok(lambda: create(2))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "BUS_UNAVAILABLE")
    assert refused.retry_after_s > 0
    assert took_s < 2
    assert await names_stored(peers) == [reply.feedback_event.name]


async def test_a_replica_that_wakes_in_the_middle_of_a_write_doubles_nothing(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """It sleeps before it publishes; another replica answers the repeat; both tell the same."""
    peers = peers_on(own_bus)
    generation, request_id = await peers.generate(), str(uuid.uuid4())
    event = {"request_id": request_id, "generation": generation, "thumbs": 1}
    asleep = f"feedback.before_publish=1*sleep({_FROZEN_S})"
    port = nats_server.options.port
    async with (
        feedback_process(tmp_path, port, failpoints=asleep) as sleeper,
        feedback_process(tmp_path, port) as awake,
        client_of(sleeper.target, tenant) as client,
        client_of(awake.target, tenant) as other,
    ):
        first = asyncio.create_task(client.create(timeout=15, **event))
        await asyncio.sleep(0.5)
        second = await other.create(**event)
        assert not first.done()
        assert (await first).feedback_event == second.feedback_event
    assert await names_stored(peers) == [second.feedback_event.name]
