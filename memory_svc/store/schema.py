"""The collection: its fields and indexes, and a memory as a row and back.

The tenant is the partition key and part of every filter. Lengths are bytes of UTF-8.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pymilvus import DataType, MilvusClient

from memory_svc.core import Memory, MemoryType, State, Visibility, digest
from memory_svc.store.filters import NEVER, microseconds

VECTOR_FIELD = "vector"
_TEXT_BYTES = 8192
_NAME_BYTES = 512
_HASH_BYTES = 32

_STRINGS = {
    "tenant": 63,
    "user": _NAME_BYTES,
    "memory_id": 64,
    "text": _TEXT_BYTES,
    "question": _TEXT_BYTES,
    "subject_key": _NAME_BYTES,
    "conversation": _NAME_BYTES,
    "feedback_event": _NAME_BYTES,
    "generation": _NAME_BYTES,
    "lesson": _NAME_BYTES,
    "previous_lesson": _NAME_BYTES,
    "previous_feedback_event": _NAME_BYTES,
    "author": _NAME_BYTES,
    "superseded_by": _NAME_BYTES,
    "retired_by_revision": _NAME_BYTES,
    "embedding_model": _NAME_BYTES,
    "request_id": _NAME_BYTES,
    "supersession_key": _HASH_BYTES,
    "question_key": _HASH_BYTES,
    "entity_key": _HASH_BYTES,
}
_ENUMS = {"type": MemoryType, "visibility": Visibility, "state": State}
_NUMBERS = ("duplicate_count", "sequence", "lesson_sequence")
_TIMES = ("create_time", "update_time", "expire_time")
# Looked up by equality.
_INDEXED = ("supersession_key", "question_key", "entity_key", "lesson", "user")
PLAIN_FIELDS = [*_STRINGS, *_ENUMS, *_NUMBERS, *_TIMES, "labels"]
ALL_FIELDS = [*PLAIN_FIELDS, VECTOR_FIELD]
PLACE_FIELDS = ["id", "create_time", "memory_id"]


def collection_schema(dimension: int) -> Any:
    """Fields of the collection."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_HASH_BYTES)
    for name, max_length in _STRINGS.items():
        is_partition_key = name == "tenant"
        schema.add_field(
            name, DataType.VARCHAR, max_length=max_length, is_partition_key=is_partition_key
        )
    for name in _ENUMS:
        schema.add_field(name, DataType.INT8)
    for name in (*_NUMBERS, *_TIMES):
        schema.add_field(name, DataType.INT64)
    schema.add_field("labels", DataType.JSON)
    schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dimension)
    return schema


def collection_indexes(*, is_lite: bool) -> Any:
    """Indexes of the collection."""
    indexes = MilvusClient.prepare_index_params()
    # NOTE: milvus-lite takes any index type without a word, so a typo would show on a cluster only.
    indexes.add_index(VECTOR_FIELD, index_type="HNSW", metric_type="COSINE", params=_HNSW)
    # milvus-lite is small enough without, and makes its client wait half a second for each.
    for name in () if is_lite else _INDEXED:
        indexes.add_index(name, index_type="INVERTED")
    return indexes


_HNSW = {"M": 16, "efConstruction": 128}


def row_id(tenant: str, memory_id: str) -> str:
    """Primary key of a memory."""
    return digest(tenant, memory_id)


def row_of(memory: Memory) -> dict[str, Any]:
    """A memory as it is stored."""
    row: dict[str, Any] = {name: getattr(memory, name) for name in (*_STRINGS, *_NUMBERS)}
    row["id"] = row_id(memory.tenant, memory.memory_id)
    row.update({name: int(getattr(memory, name)) for name in _ENUMS})
    for name in _TIMES:
        time = getattr(memory, name)
        row[name] = NEVER if time is None else microseconds(time)
    # Found by its hash, which is of the whole; a document as a question is kept in part.
    row["question"] = memory.question.encode()[:_TEXT_BYTES].decode(errors="ignore")
    row["labels"] = dict(memory.labels)
    row[VECTOR_FIELD] = list(memory.vector)
    return row


def memory_of(row: Mapping[str, Any]) -> Memory:
    """A stored row as a memory; without a vector if none was asked for."""
    values: dict[str, Any] = {name: row[name] for name in (*_STRINGS, *_NUMBERS)}
    values.update({name: kind(row[name]) for name, kind in _ENUMS.items()})
    values.update({name: time_of(row[name]) for name in _TIMES})
    return Memory(**values, labels=dict(row["labels"]), vector=row.get(VECTOR_FIELD, ()))


def time_of(stored: int) -> datetime | None:
    """A stored time; None if it is the one that never comes."""
    if stored == NEVER:
        return None
    seconds, rest = divmod(stored, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
