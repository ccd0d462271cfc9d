"""Artifacts in the object store of a real broker."""

import asyncio
import os
from pathlib import Path

import pytest

from selm.artifacts import ArtifactStore, open_store
from selm.bus import Bus
from selm.errors import SelmError
from selm.nats_server import NatsServer
from selm.settings import SharedSettings
from selm.testing import eventually


def _store(bus: Bus, tmp_path: Path) -> ArtifactStore:
    return open_store(SharedSettings(data_dir=tmp_path), bus)


def _partials(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.glob(".*.partial") if path.stat().st_size > 0]


def _file(tmp_path: Path, num_bytes: int) -> Path:
    path = tmp_path / "adapter.tar"
    path.write_bytes(os.urandom(num_bytes))
    return path


@pytest.mark.parametrize("num_bytes", [0, 1, 1024 * 1024, 5 * 1024 * 1024 + 3])
async def test_an_artifact_comes_back_byte_for_byte(
    bus: Bus, tmp_path: Path, num_bytes: int
) -> None:
    """Any size, through 1 MiB chunks."""
    store = _store(bus, tmp_path)
    path = _file(tmp_path, num_bytes)
    stored = await store.put(path)
    fetched = await store.fetch(stored.uri, stored.sha256, tmp_path / "copy" / "adapter.tar")

    assert stored.uri == f"nats://artifacts/{stored.sha256}"
    assert stored.size_bytes == num_bytes
    assert fetched.read_bytes() == path.read_bytes()


async def test_the_same_bytes_are_stored_once(bus: Bus, tmp_path: Path) -> None:
    """Publishing a revision again after a crash costs nothing."""
    store = _store(bus, tmp_path)
    path = _file(tmp_path, 2 * 1024 * 1024)
    await store.put(path)
    jetstream = bus.connection.jetstream()
    before = (await jetstream.stream_info("OBJ_artifacts")).state.messages
    await store.put(path)

    assert (await jetstream.stream_info("OBJ_artifacts")).state.messages == before


async def test_a_missing_artifact_is_unavailable(bus: Bus, tmp_path: Path) -> None:
    """The reason says what to do: try again or look for the artifact."""
    sha256 = "0" * 64
    with pytest.raises(SelmError) as failure:
        await _store(bus, tmp_path).fetch(f"nats://artifacts/{sha256}", sha256, tmp_path / "x")

    assert failure.value.reason == "ARTIFACT_UNAVAILABLE"
    assert not (tmp_path / "x").exists()


async def test_an_artifact_with_other_bytes_is_never_delivered(bus: Bus, tmp_path: Path) -> None:
    """P-04: a tampered object is refused, and no file appears."""
    store = _store(bus, tmp_path)
    stored = await store.put(_file(tmp_path, 1000))
    evil = tmp_path / "evil"
    evil.write_bytes(os.urandom(1000))
    with evil.open("rb") as file:
        objects = await bus.connection.jetstream().object_store("artifacts")
        await objects.put(stored.sha256, file)

    with pytest.raises(SelmError) as failure:
        await store.fetch(stored.uri, stored.sha256, tmp_path / "copy.tar")

    assert failure.value.reason == "DIGEST_MISMATCH"
    assert not (tmp_path / "copy.tar").exists()
    assert _partials(tmp_path) == []


async def test_an_artifact_whose_chunks_are_gone_is_unavailable(bus: Bus, tmp_path: Path) -> None:
    """Half an artifact is none."""
    store = _store(bus, tmp_path)
    stored = await store.put(_file(tmp_path, 3 * 1024 * 1024))
    jetstream = bus.connection.jetstream()
    objects = await jetstream.object_store("artifacts")
    info = await objects.get_info(stored.sha256)
    await jetstream.purge_stream("OBJ_artifacts", subject=f"$O.artifacts.C.{info.nuid}", keep=1)

    with pytest.raises(SelmError) as failure:
        await store.fetch(stored.uri, stored.sha256, tmp_path / "copy.tar")

    assert failure.value.reason == "ARTIFACT_UNAVAILABLE"


async def test_fetching_goes_on_across_a_killed_broker(
    nats_server: NatsServer, own_bus: Bus, tmp_path: Path
) -> None:
    """A replica that loads an adapter while the broker restarts still gets it."""
    store = _store(own_bus, tmp_path)
    path = _file(tmp_path, 40 * 1024 * 1024)
    stored = await store.put(path)
    fetch = asyncio.create_task(store.fetch(stored.uri, stored.sha256, tmp_path / "copy.tar"))

    async def is_under_way() -> bool:
        return bool(_partials(tmp_path)) or fetch.done()

    await eventually(is_under_way, interval_s=0.001)
    nats_server.kill()
    await asyncio.to_thread(nats_server.start)

    assert (await asyncio.wait_for(fetch, 60)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("scheme", ["nats", "file"])
async def test_a_deleted_artifact_is_gone_and_may_come_again(
    bus: Bus, tmp_path: Path, scheme: str
) -> None:
    """Deleting twice is fine, and its neighbours stay."""
    uri = "nats://artifacts" if scheme == "nats" else (tmp_path / "store").as_uri()
    store = open_store(SharedSettings(artifacts_uri=uri), bus)
    path = _file(tmp_path, 2 * 1024 * 1024)
    stored = await store.put(path)
    (tmp_path / "other").write_bytes(b"stays")
    other = await store.put(tmp_path / "other")
    await store.delete(stored.sha256)
    await store.delete(stored.sha256)

    with pytest.raises(SelmError) as failure:
        await store.fetch(stored.uri, stored.sha256, tmp_path / "gone")
    assert failure.value.reason == "ARTIFACT_UNAVAILABLE"
    assert (await store.fetch(other.uri, other.sha256, tmp_path / "o")).read_bytes() == b"stays"
    again = await store.put(path)
    back = await store.fetch(again.uri, again.sha256, tmp_path / "back")
    assert back.read_bytes() == path.read_bytes()
