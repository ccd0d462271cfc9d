"""F-23: the broker is away at the start, for a while, for ever.

Away for seconds instead of 5 minutes: the service tries again about twice a second, however long,
so a longer absence is more of the same.
"""

import asyncio
import time
from itertools import pairwise

import grpc

from selm.bus import Bus
from selm.settings import SharedSettings
from selm.stack_children import is_serving
from selm.testing import eventually
from tests.chaos_proxy.proxy import ChaosProxy
from tests.feedback_chaos.faulty import (
    cpu_share,
    feedback_process,
    resident_bytes,
    timed,
    until_ok,
)

_MIB = 1024 * 1024
_MOST_CPU = 0.05
# Shorter than the time limit of the bus (1.5 s), with room for a machine that is busy elsewhere.
_AT_ONCE_S = 1.0


async def _is_refused_at_once(client, generation: str) -> None:
    refused, took_s = await timed(
        client.refusal(client.create(generation=generation, thumbs=1, timeout=5))
    )
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "BUS_UNAVAILABLE")
    assert refused.retry_after_s > 0
    assert took_s < _AT_ONCE_S


async def test_away_at_the_start(client_of, nats_server, own_bus, peers_on, tenant, tmp_path):
    """It says so at once, costs next to nothing, and is ready soon after the broker came."""
    generation = await peers_on(own_bus).generate()
    await asyncio.to_thread(nats_server.kill)
    async with (
        feedback_process(tmp_path, nats_server.options.port, is_awaited=False) as service,
        client_of(service.target, tenant) as client,
    ):
        await client.channel.channel_ready()
        for _ in range(3):
            await _is_refused_at_once(client, generation)
        assert not await asyncio.to_thread(is_serving, service.target)
        assert await cpu_share(service.pid, 4) < _MOST_CPU
        await asyncio.to_thread(nats_server.start)
        _, took_s = await timed(asyncio.to_thread(service.wait_until_serving))
        assert took_s < 10
        reply = await client.create(generation=generation, thumbs=1)
    assert reply.feedback_event.sequence > 0


async def test_away_for_a_while(client_of, nats_server, own_bus, peers_on, tenant, tmp_path):
    """What is known is still served; nothing is written; all goes on when it is back."""
    generation = await peers_on(own_bus).generate()
    async with (
        feedback_process(tmp_path, nats_server.options.port) as service,
        client_of(service.target, tenant) as client,
    ):
        event = (await client.create(generation=generation, thumbs=1)).feedback_event
        await asyncio.to_thread(nats_server.kill)
        await eventually(lambda: _is_known_to_be_away(client, generation), timeout_s=2)
        for _ in range(3):
            await _is_refused_at_once(client, generation)
        assert await client.event(event.name) == event
        assert await cpu_share(service.pid, 4) < _MOST_CPU
        await asyncio.to_thread(nats_server.start)
        _, took_s = await timed(
            until_ok(lambda: client.create(generation=generation, thumbs=2, timeout=2))
        )
        assert took_s < 10
        _, took_s = await timed(asyncio.to_thread(service.wait_until_serving))
        assert took_s < 10


async def _is_known_to_be_away(client, generation: str) -> bool:
    refused = await client.refusal(client.create(generation=generation, thumbs=2, timeout=3))
    return refused.reason == "BUS_UNAVAILABLE"


async def test_away_for_ever(client_of, nats_server, own_bus, peers_on, tenant, tmp_path):
    """Thousands of refusals pile nothing up, and it still ends in good order."""
    generation = await peers_on(own_bus).generate()
    async with (
        feedback_process(tmp_path, nats_server.options.port) as service,
        client_of(service.target, tenant) as client,
    ):
        await client.create(generation=generation, thumbs=1)
        await asyncio.to_thread(nats_server.kill)
        await eventually(lambda: _is_known_to_be_away(client, generation), timeout_s=2)
        await _refuse_many(client, generation, 500)
        before = resident_bytes(service.pid)
        await _refuse_many(client, generation, 2000)
        assert resident_bytes(service.pid) - before < 16 * _MIB
        exit_status, took_s = await timed(asyncio.to_thread(service.stop))
        assert exit_status == 0
        assert took_s < 10


async def _refuse_many(client, generation: str, count: int) -> None:
    async def refuse(number: int) -> None:
        for _ in range(count // 20):
            comment = {"text": f"{number} " + "x" * 2000}
            refused = await client.refusal(
                client.create(generation=generation, comment=comment, timeout=5)
            )
            assert refused.reason == "BUS_UNAVAILABLE"

    await asyncio.gather(*(refuse(number) for number in range(20)))


async def test_processes_do_not_come_back_in_step(nats_server):
    """Attempts of one process keep a distance, and never twice the same."""
    attempts: list[float] = []
    async with (
        ChaosProxy.open(("127.0.0.1", nats_server.options.port)) as proxy,
        Bus.open(SharedSettings(nats_url=f"nats://127.0.0.1:{proxy.port}"), "test") as bus,
    ):
        await bus.wait_connected()
        await asyncio.to_thread(nats_server.kill)
        num_seen = proxy.num_accepted
        until = time.monotonic() + 6
        while time.monotonic() < until:
            if proxy.num_accepted > num_seen:
                num_seen = proxy.num_accepted
                attempts.append(time.monotonic())
            await asyncio.sleep(0.002)
    waits = [after - before for before, after in pairwise(attempts)]
    assert 6 <= len(attempts) <= 24
    assert min(waits) > 0.1
    assert max(waits) - min(waits) > 0.1
