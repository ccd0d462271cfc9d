"""Frozen datasets where they lie: examples as an artifact, what is known of them in a bucket.

The artifact is written before the record: a record never names what is not there. A note stands
before both, so that an erasure finds what a freeze left that died in between.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import asdict, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TextIO

from feedback_svc.curating import (
    Count,
    Dataset,
    DatasetState,
    ExampleCodec,
    IndexedExample,
)
from feedback_svc.signals import Kind
from feedback_svc.stream.jetstream import answering
from selm import names
from selm.artifact_files import sha256_of
from selm.artifacts import ArtifactStore
from selm.errors import SelmError
from selm.kv import Entry, KeyValue
from selm.testing import failpoint

BUCKET = "frozen_datasets"
# Lines read from disk at once: a dataset of any size takes no more memory than these.
_CHUNK = 256


class DatasetStore:
    """Writes a dataset once; the only change it ever sees is its erasure."""

    def __init__(
        self, bucket: KeyValue, artifacts: ArtifactStore, codec: ExampleCodec, timeout_s: float
    ) -> None:
        self._bucket = bucket
        self._artifacts = artifacts
        self._codec = codec
        self._timeout_s = timeout_s

    async def keep(self, dataset: Dataset, examples: Iterable[IndexedExample]) -> Dataset:
        """The dataset with its examples as a durable artifact of JSONL; noted, not yet recorded."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "examples.jsonl"
            await asyncio.to_thread(self._write, path, examples)
            sha256 = await asyncio.to_thread(sha256_of, path)
            uri, size_bytes = self._artifacts.uri_of(sha256), path.stat().st_size
            noted = replace(dataset, uri=uri, artifact_sha256=sha256, size_bytes=size_bytes)
            async with answering(self._timeout_s):
                await self._bucket.put(_note_key(noted), _encode(noted))
            failpoint("feedback.dataset_noted")
            await self._artifacts.put(path)
        return noted

    async def create(self, dataset: Dataset) -> None:
        """RESOURCE_EXISTS if there is one of that name."""
        value = _encode(dataset)
        async with answering(self._timeout_s):
            await self._bucket.create(_key(dataset), value)
            await self._bucket.delete(_note_key(dataset))

    async def find(self, tenant: str, name: str) -> Dataset | None:
        ids = names.parse(names.DATASET, name) or ("",)
        found = await self._read(f"{tenant}.{ids[0]}")
        return _decode(found.value) if found else None

    async def of_tenant(self, tenant: str) -> list[Dataset]:
        """Every dataset of a tenant; a reader asks for them seldom, so nothing is cached."""
        return [one for key, one in await self._all(tenant) if key == _key(one)]

    async def unrecorded(self, tenant: str) -> list[Dataset]:
        """Those whose freeze runs, or has died before the record."""
        return [one for key, one in await self._all(tenant) if key == _note_key(one)]

    async def drop(self, dataset: Dataset) -> None:
        """Take an unrecorded one's text away. Its note stays: a freeze that runs may yet store it,
        and the next erasure looks again."""
        await self._artifacts.delete(dataset.artifact_sha256)

    async def erase(self, dataset: Dataset) -> None:
        """Only its digests stay. Marked first: from then on nobody reads what is taken away."""
        key = _key(dataset)
        while (entry := await self._read(key)) is not None:
            erased = replace(_decode(entry.value), state=DatasetState.ERASED)
            try:
                async with answering(self._timeout_s):
                    await self._bucket.update(key, _encode(erased), entry.revision)
                break
            except SelmError as error:
                if error.reason != "STALE_REVISION":
                    raise
        await self._artifacts.delete(dataset.artifact_sha256)

    async def examples(self, dataset: Dataset, start: int = 0) -> AsyncGenerator[IndexedExample]:
        """From an index on; DIGEST_MISMATCH if the artifact is not what was frozen."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "examples.jsonl"
            path = await self._artifacts.fetch(dataset.uri, dataset.artifact_sha256, target)
            with await asyncio.to_thread(path.open, encoding="utf-8") as file:
                await asyncio.to_thread(_skip, file, start)
                while lines := await asyncio.to_thread(lambda: list(islice(file, _CHUNK))):
                    for line in lines:
                        yield self._codec.example(line)

    async def _all(self, tenant: str) -> list[tuple[str, Dataset]]:
        async with answering(self._timeout_s):
            keys = await self._bucket.keys(f"{tenant}.")
        found = [(key, await self._read(key)) for key in keys]
        return [(key, _decode(entry.value)) for key, entry in found if entry is not None]

    async def _read(self, key: str) -> Entry | None:
        async with answering(self._timeout_s):
            return await self._bucket.get(key)

    def _write(self, path: Path, examples: Iterable[IndexedExample]) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(self._lines(examples))

    def _lines(self, examples: Iterable[IndexedExample]) -> Iterator[str]:
        return (f"{self._codec.line(example)}\n" for example in examples)


def _skip(file: TextIO, number: int) -> None:
    for _ in islice(file, number):
        pass


def _key(dataset: Dataset) -> str:
    ids = names.parse(names.DATASET, dataset.name) or ("",)
    return f"{dataset.tenant}.{ids[0]}"


def _note_key(dataset: Dataset) -> str:
    """Of this very text: a repeat may freeze more than the attempt that died."""
    return f"{_key(dataset)}.{dataset.artifact_sha256}"


def _encode(dataset: Dataset) -> bytes:
    fields = asdict(dataset) | {
        "spec": dataset.spec.hex(),
        "create_time": dataset.create_time.isoformat(),
    }
    return json.dumps(fields).encode()


def _decode(value: bytes) -> Dataset:
    fields = json.loads(value)
    counts = tuple(Count(c["split"], Kind(c["kind"]), c["number"]) for c in fields["counts"])
    return Dataset(
        **fields
        | {
            "spec": bytes.fromhex(fields["spec"]),
            "state": DatasetState(fields["state"]),
            "counts": counts,
            "create_time": datetime.fromisoformat(fields["create_time"]),
        }
    )
