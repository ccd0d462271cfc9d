"""The nouns of frozen datasets, another part of core: what was frozen, and how it is read.

Knows no protobuf, broker or gRPC. The ports at the end are what the back room `datasets` fulfils
and needs.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from feedback_svc.core import EventFilter, RequestKey
from feedback_svc.signals import Kind

TRAIN, HOLDOUT = 1, 2


class DatasetState(IntEnum):
    """Whether a dataset can be read; numbers of the contract."""

    READY = 2
    ERASED = 4


class Shape(IntEnum):
    """What a line of an export holds; numbers of the contract."""

    SFT = 1
    DPO = 2
    KTO = 3
    FULL = 4


@dataclass(frozen=True)
class Example:
    """One training item and where it comes from."""

    split: int
    kind: Kind
    prompt: str
    completion: str
    rejected: str
    label: bool | None
    paraphrases: tuple[str, ...]
    lesson: str
    feedback_event: str
    generation: str
    author: str
    adapter_revision: str
    weight: float
    sha256: str


@dataclass(frozen=True)
class DatasetDraft:
    """What a caller wants frozen. `spec` is how it was asked for, opaque here."""

    adapter: str
    wanted: EventFilter
    dataset_id: str = ""
    holdout_share: float = 0.0
    seed: int = 0
    # 0 means the policy's.
    max_author_share: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    spec: bytes = b""


@dataclass(frozen=True)
class Count:
    """Examples of one split and kind."""

    split: int
    kind: Kind
    number: int


@dataclass(frozen=True)
class Dataset:
    """A frozen set. Its examples are an artifact; this is what is known of them."""

    tenant: str
    name: str
    adapter: str
    spec: bytes
    state: DatasetState
    last_sequence: int
    sha256: str
    counts: tuple[Count, ...]
    exclusions: Mapping[str, int]
    labels: Mapping[str, str]
    create_time: datetime
    # The artifact: where it lies, what it must be, and its size as JSONL.
    uri: str
    artifact_sha256: str
    size_bytes: int
    # Under which it was asked for; empty if under none.
    request_id: str = ""

    @property
    def num_examples(self) -> int:
        return sum(count.number for count in self.counts)


@dataclass(frozen=True)
class IndexedExample:
    """An example at its place in the dataset."""

    index: int
    example: Example


class Datasets(Protocol):
    """Freezes feedback, and hands it out again."""

    async def create(self, tenant: str, draft: DatasetDraft, key: RequestKey | None) -> Dataset: ...

    async def get(self, tenant: str, name: str) -> Dataset: ...

    async def list(
        self, tenant: str, adapter: str, before: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Dataset]:
        """Newest first, those before a time and name."""
        ...

    def examples(
        self, tenant: str, name: str, split: int, start: int
    ) -> AsyncGenerator[IndexedExample, None]:
        """By index, from `start` on; split 0 is any. STATE_CONFLICT if they were erased."""
        ...


class ExampleCodec(Protocol):
    """An example as one line of JSON, and back; see render and wire."""

    def line(self, example: IndexedExample) -> str: ...

    def example(self, line: str) -> IndexedExample: ...
