"""F-26: the stream, the broker or its disk is full; nothing is dropped in silence.

A broker that keeps its own limit says so, and it is STORAGE_FULL. A disk that is full for real
leaves a nats-server (2.15.1) silent, even when there is room again, until it is restarted: that is
BUS_UNAVAILABLE, and the reason to set `max_file_store` below the size of the disk.
"""

import asyncio
import uuid
from dataclasses import dataclass, field

import grpc

from selm import streams
from selm.bus import Bus
from selm.bus_errors import broker_errors
from selm.settings import SharedSettings
from tests.feedback_chaos.clients import reason_of
from tests.feedback_chaos.faulty import feedback_process, names_stored, until_ok
from tests.feedback_chaos.small_broker import UNLIMITED, SmallNats, small_disk

_MIB = 1024 * 1024
_NUM_CALLERS = 16
_TALK = "conversations/talk"


@dataclass
class Outcomes:
    """What became of each request id at its only attempt so far."""

    texts: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, grpc.aio.AioRpcError] = field(default_factory=dict)

    @property
    def reasons(self) -> set[str]:
        return {reason_of(error) for error in self.refusals.values()}

    @property
    def num_unknown(self) -> int:
        codes = [error.code() for error in self.refusals.values()]
        return codes.count(grpc.StatusCode.UNAVAILABLE)


def _create(client, request_id: str, text: str):
    return client.create(
        request_id=request_id, timeout=5, conversation=_TALK, comment={"text": text}
    )


async def _fill(client, most: int) -> Outcomes:
    """Many callers at once, each until it was refused or has said its part."""
    outcomes = Outcomes()

    async def speak(caller: int) -> None:
        for number in range(most // _NUM_CALLERS):
            request_id = str(uuid.uuid4())
            outcomes.texts[request_id] = text = f"{caller} {number} " + "word " * 800
            try:
                reply = await _create(client, request_id, text)
            except grpc.aio.AioRpcError as error:
                outcomes.refusals[request_id] = error
                return
            outcomes.names[request_id] = reply.feedback_event.name

    await asyncio.gather(*(speak(caller) for caller in range(_NUM_CALLERS)))
    return outcomes


async def _all_count_once(client, peers, outcomes: Outcomes) -> None:
    """With room again every repeat is OK, and each is stored once."""
    names = []
    for request_id, text in outcomes.texts.items():
        reply = await until_ok(lambda id_=request_id, text=text: _create(client, id_, text))
        assert reply.feedback_event.name == outcomes.names.get(
            request_id, reply.feedback_event.name
        )
        names.append(reply.feedback_event.name)
    assert len(set(names)) == len(names)
    assert sorted(await names_stored(peers)) == sorted(names)


async def _set_max_bytes(bus: Bus, max_bytes: int) -> None:
    jetstream = bus.connection.jetstream()
    config = (await jetstream.stream_info(streams.FEEDBACK.name)).config
    config.max_bytes = max_bytes
    with broker_errors():
        await jetstream.update_stream(config)


async def test_a_full_stream_refuses_and_says_so(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """What was OK is stored, what was refused is not; with room again it goes on."""
    peers = peers_on(own_bus)
    async with (
        feedback_process(tmp_path, nats_server.options.port) as service,
        client_of(service.target, tenant) as client,
    ):
        await _set_max_bytes(own_bus, 400_000)
        outcomes = await _fill(client, 320)
        assert len(outcomes.names) > 20
        assert len(outcomes.refusals) == _NUM_CALLERS
        assert outcomes.reasons == {"STORAGE_FULL"}
        assert {e.code() for e in outcomes.refusals.values()} == {
            grpc.StatusCode.RESOURCE_EXHAUSTED
        }
        assert sorted(await names_stored(peers)) == sorted(outcomes.names.values())
        refused = next(iter(outcomes.refusals))
        again = await client.refusal(_create(client, refused, outcomes.texts[refused]))
        assert again.retry_after_s > 0
        await _set_max_bytes(own_bus, -1)
        await _all_count_once(client, peers, outcomes)


async def test_a_full_broker_refuses_and_says_so(client_of, peers_on, tenant, tmp_path):
    """Room is made where something else had taken it.

    The broker gives no answer to the batch that reaches its limit and keeps the beginning of it
    (2.15.1), so the outcome of some is unknown; who comes later is told.
    """
    nats = SmallNats(tmp_path / "nats", max_file_store=2 * _MIB)
    await asyncio.to_thread(nats.start)
    try:
        async with (
            Bus.open(SharedSettings(nats_url=nats.url), "test") as bus,
            feedback_process(tmp_path, nats.options.port) as service,
            client_of(service.target, tenant) as client,
        ):
            peers = peers_on(bus)
            await bus.ready()
            for _ in range(5):
                await peers.generate(answer="word " * 40_000)
            outcomes = await _fill(client, 480)
            assert len(outcomes.names) > 20
            assert len(outcomes.refusals) == _NUM_CALLERS
            assert outcomes.reasons <= {"STORAGE_FULL", "BUS_UNAVAILABLE"}
            stored = await names_stored(peers)
            assert set(outcomes.names.values()) <= set(stored)
            # What was STORAGE_FULL is not stored.
            assert len(stored) <= len(outcomes.names) + outcomes.num_unknown
            request_id = str(uuid.uuid4())
            full = await client.refusal(_create(client, request_id, "word " * 800))
            assert (full.code, full.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "STORAGE_FULL",
            )
            assert full.retry_after_s > 0
            await bus.connection.jetstream().purge_stream(streams.GENERATIONS.name)
            await _all_count_once(client, peers, outcomes)
    finally:
        await asyncio.to_thread(nats.stop)


async def test_a_full_disk_loses_nothing(client_of, peers_on, tenant, tmp_path):
    """Unknown until the broker was restarted with room; then everything counts once."""
    folder = tmp_path / "nats"
    with small_disk(folder / "jetstream", 4 * _MIB) as disk:
        nats = SmallNats(folder, max_file_store=UNLIMITED)
        await asyncio.to_thread(nats.start)
        disk.limit(nats._process.pid)
        try:
            async with (
                Bus.open(SharedSettings(nats_url=nats.url), "test") as bus,
                feedback_process(tmp_path, nats.options.port, bus_timeout_s="0.5") as service,
                client_of(service.target, tenant) as client,
            ):
                peers = peers_on(bus)
                outcomes = await _fill(client, 1600)
                assert len(outcomes.names) > 20
                assert len(outcomes.refusals) == _NUM_CALLERS
                assert {e.code() for e in outcomes.refusals.values()} <= {
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                }
                await asyncio.to_thread(nats.kill)
                disk.grow()
                await asyncio.to_thread(nats.start)
                stored = await names_stored(peers)
                assert set(outcomes.names.values()) <= set(stored)
                await _all_count_once(client, peers, outcomes)
        finally:
            await asyncio.to_thread(nats.kill)
