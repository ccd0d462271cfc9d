"""Compare-and-set buckets on a real broker."""

import asyncio

import pytest

from selm.bus import Bus
from selm.errors import SelmError
from selm.kv import Entry
from selm.nats_server import NatsServer
from selm.testing import eventually


async def test_a_key_is_created_once(bus: Bus, tenant: str) -> None:
    """Two services cannot both create the same job."""
    jobs = bus.kv("jobs")
    revision = await jobs.create(f"{tenant}.j1", b"first")

    with pytest.raises(SelmError) as failure:
        await jobs.create(f"{tenant}.j1", b"second")

    assert failure.value.reason == "RESOURCE_EXISTS"
    assert await jobs.get(f"{tenant}.j1") == Entry(b"first", revision)


async def test_an_update_of_a_stale_revision_loses(bus: Bus, tenant: str) -> None:
    """The lease epoch fences: only one of two trainers wins."""
    jobs = bus.kv("jobs")
    revision = await jobs.create(f"{tenant}.j1", b"0")
    results = await asyncio.gather(
        *(jobs.update(f"{tenant}.j1", bytes([i]), revision) for i in range(8)),
        return_exceptions=True,
    )

    losers = [result for result in results if isinstance(result, SelmError)]
    assert len(losers) == 7
    assert {loser.reason for loser in losers} == {"STALE_REVISION"}


async def test_a_deleted_key_reads_as_absent_and_can_be_created_again(
    bus: Bus, tenant: str
) -> None:
    """Deletion leaves a marker in the bucket, never in the answer."""
    adapters = bus.kv("adapters")
    await adapters.put(f"{tenant}.a", b"1")
    await adapters.delete(f"{tenant}.a")
    assert await adapters.get(f"{tenant}.a") is None
    assert await adapters.keys(tenant) == []

    await adapters.create(f"{tenant}.a", b"2")

    assert await adapters.keys(tenant) == [f"{tenant}.a"]


async def test_keys_are_listed_by_prefix(bus: Bus, tenant: str) -> None:
    """A tenant's keys are listed without anybody else's."""
    revisions = bus.kv("revisions")
    for key in ("a.r1", "a.r2", "ab.r3"):
        await revisions.put(f"{tenant}.{key}", b"x")

    assert await revisions.keys(f"{tenant}.a.") == [f"{tenant}.a.r1", f"{tenant}.a.r2"]
    assert len(await revisions.keys(f"{tenant}.a")) == 3
    assert len(await revisions.keys(f"{tenant}.")) == 3
    assert await revisions.keys("nobody.") == []


async def test_a_watch_sees_present_values_changes_and_deletions_across_a_kill(
    nats_server: NatsServer, own_bus: Bus
) -> None:
    """A watcher needs no restart when the broker did."""
    jobs = own_bus.kv("jobs")
    await jobs.put("default.j1", b"queued")
    seen: list[tuple[str, bytes | None]] = []

    async def follow() -> None:
        async for key, entry in jobs.watch("default."):
            seen.append((key, entry.value if entry else None))

    async def has(count: int) -> bool:
        return len(seen) == count

    follower = asyncio.create_task(follow())
    await eventually(lambda: has(1))
    nats_server.kill()
    await asyncio.to_thread(nats_server.start)
    await asyncio.wait_for(own_bus.wait_connected(), 20)
    await jobs.put("default.j1", b"running")
    await jobs.delete("default.j1")
    await eventually(lambda: has(3))
    follower.cancel()

    assert seen == [("default.j1", b"queued"), ("default.j1", b"running"), ("default.j1", None)]


async def test_a_key_that_is_no_key_is_refused_before_the_broker(bus: Bus) -> None:
    """A wildcard or a space in a key is a bug of the caller."""
    for key in ("", "a..b", "a.*", "a b", ".a", "a.>"):
        with pytest.raises(ValueError, match="not a key"):
            await bus.kv("jobs").get(key)


async def test_a_bucket_that_the_broker_lost_is_created_again(bus: Bus, tenant: str) -> None:
    """The first write fails as retryable, the repeat succeeds."""
    await bus.connection.jetstream().delete_stream("KV_datasets")
    datasets = bus.kv("datasets")
    with pytest.raises(SelmError) as failure:
        await datasets.put(f"{tenant}.d", b"x")
    await datasets.put(f"{tenant}.d", b"x")

    assert failure.value.reason == "BUS_UNAVAILABLE"
    entry = await datasets.get(f"{tenant}.d")
    assert entry is not None
    assert entry.value == b"x"
