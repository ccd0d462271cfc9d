"""Content-addressed artifacts: `nats://artifacts/<sha256>` in the bus, or `file:///folder/<sha256>`.

An artifact never changes; its name is the digest of its bytes, checked on every read.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from selm.artifact_files import copy_durably, partial_path, publish_file, sha256_of
from selm.artifact_objects import ObjectBucket
from selm.bus import Bus
from selm.errors import SelmError
from selm.settings import SharedSettings

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredArtifact:
    """Where an artifact lies, and what it must be."""

    uri: str
    sha256: str
    size_bytes: int


class ArtifactStore(Protocol):
    """Port of everything that keeps artifacts."""

    def uri_of(self, sha256: str) -> str:
        """Where an artifact of this digest lies, or would."""

    async def put(self, path: Path) -> StoredArtifact:
        """Store a file durably; storing the same bytes again changes nothing."""

    async def fetch(self, uri: str, sha256: str, into: Path) -> Path:
        """Write the artifact to `into` (a file, or an existing folder) and return its path.

        ARTIFACT_UNAVAILABLE if it is not there, DIGEST_MISMATCH if it is not what it should be.
        `into` appears only when it is complete and right.
        """

    async def delete(self, sha256: str) -> None:
        """Take an artifact's bytes away for good; doing it twice is fine."""


def open_store(settings: SharedSettings, bus: Bus) -> ArtifactStore:
    """The store that `SELM_ARTIFACTS_URI` names."""
    parts = urlsplit(settings.artifacts_uri)
    if parts.scheme == "nats" and parts.netloc:
        return BusArtifactStore(bus, parts.netloc)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return FileArtifactStore(Path(unquote(parts.path)))
    raise ValueError(f"SELM_ARTIFACTS_URI: neither nats://bucket nor file:///folder: {parts}")


class FileArtifactStore:
    """Artifacts as files of one folder, which all services of a deployment share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def uri_of(self, sha256: str) -> str:
        return (self._folder / sha256).resolve().as_uri()

    async def put(self, path: Path) -> StoredArtifact:
        return await asyncio.to_thread(self._put, path)

    def _put(self, path: Path) -> StoredArtifact:
        sha256 = sha256_of(path)
        target = self._folder / sha256
        if not target.is_file():
            copy_durably(path, target)
        return StoredArtifact(self.uri_of(sha256), sha256, target.stat().st_size)

    async def fetch(self, uri: str, sha256: str, into: Path) -> Path:
        # Only the digest of the URI is used: a message must not make us read any other file.
        check_uri(uri, sha256, "file")
        source = self._folder / sha256

        def copy(partial: Path) -> None:
            try:
                copy_durably(source, partial)
            except FileNotFoundError:
                raise SelmError("ARTIFACT_UNAVAILABLE", f"no artifact {sha256}") from None

        async def write(partial: Path) -> None:
            await asyncio.to_thread(copy, partial)

        return await _fetch(sha256, into, write)

    async def delete(self, sha256: str) -> None:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a sha256: {sha256!r}")
        await asyncio.to_thread((self._folder / sha256).unlink, missing_ok=True)


class BusArtifactStore:
    """Artifacts in the object store of the bus: no volume to share between services."""

    def __init__(self, bus: Bus, bucket: str) -> None:
        self._objects = ObjectBucket(bus.connection, bucket)
        self._bucket = bucket

    def uri_of(self, sha256: str) -> str:
        return f"nats://{self._bucket}/{sha256}"

    async def put(self, path: Path) -> StoredArtifact:
        sha256 = await asyncio.to_thread(sha256_of, path)
        size_bytes = await self._objects.put(sha256, path)
        return StoredArtifact(self.uri_of(sha256), sha256, size_bytes)

    async def fetch(self, uri: str, sha256: str, into: Path) -> Path:
        check_uri(uri, sha256, "nats")

        async def write(partial: Path) -> None:
            await self._objects.get(sha256, partial)

        return await _fetch(sha256, into, write)

    async def delete(self, sha256: str) -> None:
        await self._objects.delete(sha256)


def check_uri(uri: str, sha256: str, scheme: str) -> None:
    """The URI is of this store and names this digest; ARTIFACT_UNAVAILABLE otherwise."""
    parts = urlsplit(uri)
    if not _SHA256.fullmatch(sha256):
        raise SelmError("ARTIFACT_UNAVAILABLE", f"not a sha256: {sha256!r}")
    if parts.scheme != scheme:
        raise SelmError("ARTIFACT_UNAVAILABLE", f"{uri}: this deployment keeps {scheme}:// only")
    if parts.path.rpartition("/")[2] != sha256:
        raise SelmError("ARTIFACT_UNAVAILABLE", f"{uri}: does not name {sha256}")


async def _fetch(sha256: str, into: Path, write: Callable[[Path], Awaitable[None]]) -> Path:
    target, is_there = await asyncio.to_thread(_locate, sha256, into)
    if is_there:
        return target
    partial = partial_path(target)
    try:
        await write(partial)
        found = await asyncio.to_thread(sha256_of, partial)
        if found != sha256:
            raise SelmError("DIGEST_MISMATCH", f"artifact {sha256} has the digest {found}")
        await asyncio.to_thread(publish_file, partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _locate(sha256: str, into: Path) -> tuple[Path, bool]:
    """The file to write, and whether the right bytes are already in it."""
    target = into / sha256 if into.is_dir() else into
    return target, target.is_file() and sha256_of(target) == sha256
