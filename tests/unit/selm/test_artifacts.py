"""The file store, and what a URI may name."""

import hashlib
from pathlib import Path

import pytest

from selm.artifacts import FileArtifactStore, check_uri
from selm.errors import SelmError

SHA256 = hashlib.sha256(b"weights").hexdigest()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file to store."""
    path = tmp_path / "adapter.tar"
    path.write_bytes(b"weights")
    return path


async def test_a_stored_file_is_named_by_its_digest(tmp_path: Path, weights: Path) -> None:
    """Content addressing: the name proves the bytes."""
    stored = await FileArtifactStore(tmp_path / "store").put(weights)

    assert stored.sha256 == SHA256
    assert stored.size_bytes == 7
    assert stored.uri == (tmp_path / "store" / SHA256).as_uri()
    assert [path.name for path in (tmp_path / "store").iterdir()] == [SHA256]


async def test_fetch_writes_a_file_or_into_a_folder(tmp_path: Path, weights: Path) -> None:
    """Callers name the file, or a folder that holds many."""
    store = FileArtifactStore(tmp_path / "store")
    stored = await store.put(weights)
    (tmp_path / "cache").mkdir()
    named = await store.fetch(stored.uri, SHA256, tmp_path / "deep" / "a.tar")
    cached = await store.fetch(stored.uri, SHA256, tmp_path / "cache")

    assert named == tmp_path / "deep" / "a.tar"
    assert cached == tmp_path / "cache" / SHA256
    assert named.read_bytes() == cached.read_bytes() == b"weights"


async def test_a_file_that_is_already_right_is_not_fetched(tmp_path: Path, weights: Path) -> None:
    """A restarted replica loads from its cache, even while the store is away."""
    into = tmp_path / "a.tar"
    into.write_bytes(b"weights")
    store = FileArtifactStore(tmp_path / "gone")

    assert await store.fetch(f"file:///gone/{SHA256}", SHA256, into) == into


async def test_tampered_bytes_are_refused_and_leave_nothing(tmp_path: Path, weights: Path) -> None:
    """P-04: DIGEST_MISMATCH, and no file appears."""
    store = FileArtifactStore(tmp_path / "store")
    stored = await store.put(weights)
    (tmp_path / "store" / SHA256).write_bytes(b"evil")
    with pytest.raises(SelmError) as failure:
        await store.fetch(stored.uri, SHA256, tmp_path / "out" / "a.tar")

    assert failure.value.reason == "DIGEST_MISMATCH"
    assert list((tmp_path / "out").iterdir()) == []


async def test_a_missing_file_is_unavailable(tmp_path: Path) -> None:
    """The caller may try again later."""
    with pytest.raises(SelmError) as failure:
        await FileArtifactStore(tmp_path).fetch(f"file:///{SHA256}", SHA256, tmp_path / "a.tar")

    assert failure.value.reason == "ARTIFACT_UNAVAILABLE"


@pytest.mark.parametrize(
    ("uri", "sha256"),
    [
        (f"nats://artifacts/{SHA256}", SHA256),
        ("file:///etc/passwd", SHA256),
        (f"file:///x/{SHA256}", "../../etc/passwd"),
        (f"https://example.org/{SHA256}", SHA256),
    ],
)
def test_a_message_cannot_make_us_read_anything_else(uri: str, sha256: str) -> None:
    """P-09: only this store, only names that are digests."""
    with pytest.raises(SelmError) as failure:
        check_uri(uri, sha256, "file")

    assert failure.value.reason == "ARTIFACT_UNAVAILABLE"
