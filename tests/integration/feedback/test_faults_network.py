"""F-24: the network between feedback_svc and its broker is cut, half cut, or slow.

Whatever it is, a caller hears of it within its own deadline, what waits for the broker is bounded,
and after it every repeat ends in one event.
"""

import asyncio
import uuid

import grpc
import pytest

from selm.testing import eventually
from tests.chaos_proxy.faults import Direction
from tests.chaos_proxy.proxy import ChaosProxy
from tests.feedback_chaos.faulty import (
    feedback_behind_proxy,
    names_stored,
    resident_bytes,
    timed,
    until_ok,
)

_MIB = 1024 * 1024
# Beside a deadline, for a machine that is busy elsewhere.
_GRACE_S = 1.0
_TALK = "conversations/talk"
_KNOWN_CODES = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}

CUTS = {
    "blackhole": ChaosProxy.blackhole,
    "held": ChaosProxy.hold,
    "dead up": lambda proxy: proxy.half_open(Direction.UP),
    "dead down": lambda proxy: proxy.half_open(Direction.DOWN),
}


@pytest.mark.parametrize("cut", CUTS)
async def test_a_cut_is_told_in_time_and_repeats_count_once(
    client_of, cut, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """By deadline or by the time limit of the bus, whichever is shorter."""
    peers = peers_on(own_bus)
    generation = await peers.generate()
    async with (
        feedback_behind_proxy(tmp_path, nats_server) as (service, proxy),
        client_of(service.target, tenant) as client,
    ):

        def create(request_id: str, number: int, timeout: float):
            return client.create(
                request_id=request_id,
                timeout=timeout,
                rating={"value": number, "max_value": 100},
                # Half of them need an answer of the broker before there is anything to publish.
                **({"generation": generation} if number % 2 else {"conversation": _TALK}),
            )

        async def refused_in_time(request_id: str, number: int, timeout: float) -> None:
            refused, took_s = await timed(client.refusal(create(request_id, number, timeout)))
            assert refused.code in _KNOWN_CODES, refused
            assert took_s < min(timeout, 2 * 1.5) + _GRACE_S

        ids = {str(uuid.uuid4()): number for number in range(20)}
        await create(str(uuid.uuid4()), 99, 5)
        CUTS[cut](proxy)
        await asyncio.gather(
            *(refused_in_time(id_, number, 0.5 + number / 4) for id_, number in ids.items())
        )
        proxy.heal()
        replies = [await until_ok(lambda pair=pair: create(*pair, 3)) for pair in ids.items()]
        names = [reply.feedback_event.name for reply in replies]
        for (request_id, number), reply in zip(ids.items(), replies, strict=True):
            assert await create(request_id, number, 5) == reply
    stored = await names_stored(peers)
    assert len(set(names)) == 20
    assert sorted(stored[1:]) == sorted(names)


async def test_what_waits_for_a_silent_broker_is_bounded(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """Calls give up, and what they wanted to publish does not pile up: 30 MB were offered."""
    peers = peers_on(own_bus)
    async with (
        feedback_behind_proxy(tmp_path, nats_server, bus_timeout_s="0.3") as (service, proxy),
        client_of(service.target, tenant) as client,
    ):

        async def offer(worker: int, numbers: range) -> set[str]:
            codes = set()
            for number in numbers:
                comment = {"text": f"{worker} {number} " + "word " * 800}
                refused = await client.refusal(
                    client.create(conversation=_TALK, comment=comment, timeout=5)
                )
                codes.add(refused.code)
            return codes

        await client.create(conversation=_TALK, thumbs=1)
        proxy.hold()
        await asyncio.gather(*(offer(worker, range(2)) for worker in range(100)))
        before = resident_bytes(service.pid)
        codes = await asyncio.gather(*(offer(worker, range(2, 77)) for worker in range(100)))
        grown = resident_bytes(service.pid) - before
        proxy.heal()
        reply = await until_ok(lambda: client.create(conversation=_TALK, thumbs=2, timeout=2))
    stored = await names_stored(peers)
    assert set().union(*codes) <= _KNOWN_CODES
    assert grown < 24 * _MIB
    assert reply.feedback_event.name in stored
    assert len(set(stored)) == len(stored)


async def test_a_slow_broker_is_waited_for_within_the_deadline(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """With 500 ms each way it takes a second or two; who has less time is told in time."""
    generation = await peers_on(own_bus).generate()
    async with (
        feedback_behind_proxy(tmp_path, nats_server, bus_timeout_s="3") as (service, proxy),
        client_of(service.target, tenant) as client,
    ):
        await client.create(generation=generation, thumbs=1)
        proxy.slow(latency_s=0.5)
        hasty, took_s = await timed(
            client.refusal(client.create(generation=generation, thumbs=2, timeout=0.7))
        )
        assert hasty.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert took_s < 0.7 + _GRACE_S
        _, took_s = await timed(
            client.create(generation=generation, comment={"text": "late"}, timeout=10)
        )
        assert 1 < took_s < 6


async def test_a_path_of_one_kilobyte_a_second(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """What is too large for it is unavailable in time; it counts once when the path is wide."""
    peers = peers_on(own_bus)
    request_id, comment = str(uuid.uuid4()), {"text": "word " * 800}
    async with (
        feedback_behind_proxy(tmp_path, nats_server) as (service, proxy),
        client_of(service.target, tenant) as client,
    ):

        def create(timeout: float):
            return client.create(
                request_id=request_id, timeout=timeout, conversation=_TALK, comment=comment
            )

        await client.create(conversation=_TALK, thumbs=1)
        proxy.slow(bytes_per_s=1000)
        refused, took_s = await timed(client.refusal(create(10)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "BUS_UNAVAILABLE")
        assert took_s < 2 * 1.5 + _GRACE_S
        proxy.heal()
        reply = await until_ok(lambda: create(3))
        assert (await create(3)).feedback_event == reply.feedback_event
    assert (await names_stored(peers))[1:] == [reply.feedback_event.name]


async def test_a_connection_to_nobody_is_given_up(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """The broker came back but its end was never told: pings find out, and all goes on."""
    generation = await peers_on(own_bus).generate()
    async with (
        feedback_behind_proxy(tmp_path, nats_server, bus_timeout_s="0.5") as (service, proxy),
        client_of(service.target, tenant) as client,
    ):
        await client.create(generation=generation, thumbs=1)
        proxy.hide_ends()
        await asyncio.to_thread(nats_server.kill)
        await asyncio.to_thread(nats_server.start)
        refused = await client.refusal(client.create(generation=generation, thumbs=2, timeout=3))
        assert refused.reason == "BUS_UNAVAILABLE"

        async def is_accepted() -> bool:
            try:
                await client.create(generation=generation, thumbs=2, timeout=3)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                return False
            return True

        # Nothing is healed: the way to a new connection was open all the time.
        await eventually(is_accepted, timeout_s=20, interval_s=0.5)
