"""Whether an acknowledgement means what it says: how the broker syncs, and where a stream lives."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nats.js import api

from selm import streams
from selm.bus import Bus
from selm.durability import check_sync, critical_sync_checks, sync_checks
from selm.errors import SelmError
from selm.nats_server import NatsServer, NatsServerOptions
from selm.settings import SharedSettings
from selm.testing import free_port


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], NatsServer]]:
    """Starts a broker that syncs as told; none outlives the test."""
    servers: list[NatsServer] = []

    def start_one(sync_interval: str) -> NatsServer:
        options = NatsServerOptions(tmp_path / "nats", free_port(), free_port(), sync_interval)
        servers.append(NatsServer(options))
        servers[-1].start()
        return servers[-1]

    yield start_one
    for server in servers:
        server.stop()


async def is_warned(server: NatsServer, capsys: pytest.CaptureFixture[str]) -> bool:
    settings = SharedSettings(nats_url=server.url, nats_monitor_url=server.options.monitor_url)
    capsys.readouterr()
    async with Bus.open(settings, "test") as bus:
        await bus.ready()
    printed = capsys.readouterr()
    return "bus_not_durable" in printed.out + printed.err


async def test_a_broker_that_syncs_always_passes(
    start: Callable[[str], NatsServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration that `selm up` writes."""
    server = start("always")

    assert (await check_sync(server.options.monitor_url)).passed
    assert (await check_sync(server.options.monitor_url + "/")).passed
    assert not await is_warned(server, capsys)


async def test_a_broker_that_syncs_later_fails_and_is_warned_of(
    start: Callable[[str], NatsServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """The default of two minutes, or any interval, may lose what was acknowledged."""
    server = start("2m")
    result = await check_sync(server.options.monitor_url)

    assert (result.passed, result.reason) == (False, "STORE_UNAVAILABLE")
    assert "sync_interval: always" in result.detail
    assert await is_warned(server, capsys)


async def test_a_monitor_that_does_not_answer_proves_nothing() -> None:
    """Silence is no promise."""
    result = await check_sync(f"http://127.0.0.1:{free_port()}")

    assert (result.passed, result.reason) == (False, "PEER_UNAVAILABLE")


async def test_who_insists_must_name_the_monitor() -> None:
    """Without it there is no check, unless it is required: then it cannot pass."""
    assert sync_checks(None, is_required=False) == {}
    assert critical_sync_checks(is_required=False) == frozenset()

    required = sync_checks(None, is_required=True)
    (check,) = required.values()
    assert critical_sync_checks(is_required=True) == set(required)
    assert not (await check()).passed


async def test_a_stream_in_memory_is_refused(nats_server: NatsServer) -> None:
    """Somebody made FEEDBACK by hand; its acknowledgements would promise what it cannot keep."""
    config = api.StreamConfig(
        name="FEEDBACK",
        subjects=list(streams.FEEDBACK.subjects),
        storage=api.StorageType.MEMORY,
        allow_direct=True,
    )
    async with Bus.open(SharedSettings(nats_url=nats_server.url), "test") as bus:
        await bus.wait_connected()
        await bus.connection.jetstream().add_stream(config)
        with pytest.raises(SelmError, match="storage"):
            await bus.ensure_streams([streams.FEEDBACK])


async def test_a_stream_without_acknowledgements_learns_to_give_them(
    nats_server: NatsServer,
) -> None:
    """A publish to it would wait for ever."""
    config = api.StreamConfig(
        name="FEEDBACK", subjects=list(streams.FEEDBACK.subjects), no_ack=True
    )
    async with Bus.open(SharedSettings(nats_url=nats_server.url), "test") as bus:
        await bus.wait_connected()
        await bus.connection.jetstream().add_stream(config)
        await bus.ensure_streams([streams.FEEDBACK])

        kept = (await bus.connection.jetstream().stream_info("FEEDBACK")).config
    assert not kept.no_ack
