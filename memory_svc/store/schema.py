"""The collection, version 2: its fields and indexes, and a memory as a row and back.

The tenant is part of every filter, and the partition key where that works. Lengths are bytes of
UTF-8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymilvus import DataType, Function, FunctionType, MilvusClient

from memory_svc.conditions import Condition
from memory_svc.core import Counters, Memory, MemoryType, State, Visibility, digest
from memory_svc.store.changes import changes_of, stored_changes
from memory_svc.store.filters import NEVER, microseconds, time_of
from memory_svc.store.labels import MAX_TOKENS, TOKEN_BYTES, encoded, tokens

# Goes up with every change of fields; store/migrations.py knows how older ones are brought here.
VERSION = 2

VECTOR_FIELD = "vector"
KEYWORD_FIELD = "keywords"
HISTORY_FIELD = "changes"
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
_COUNTERS = ("retrieved_count", "injected_count", "agreed_count", "disagreed_count")
_TIMES = (
    "create_time",
    "update_time",
    "valid_start_time",
    "valid_end_time",
    "expire_time",
    "live_end_time",
)
# Looked up by equality.
_INDEXED = ("supersession_key", "question_key", "entity_key", "lesson", "user")
PLAIN_FIELDS = [
    *_STRINGS,
    *_ENUMS,
    *_NUMBERS,
    *_COUNTERS,
    *_TIMES,
    "last_use_time",
    "importance",
    "labels",
]
# Histories are long: only those who need them ask for them.
HIT_FIELDS = [*PLAIN_FIELDS, VECTOR_FIELD]
ALL_FIELDS = [*HIT_FIELDS, HISTORY_FIELD]
PLACE_FIELDS = ["id", "create_time", "memory_id"]


def fields_for(fields: Sequence[str], condition: Condition) -> list[str]:
    """With the history too, where a past time is asked for."""
    return [*fields] if condition.as_of is None else [*fields, HISTORY_FIELD]


def collection_schema(dimension: int, *, has_keywords: bool, has_partitions: bool) -> Any:
    """Fields of the collection, as far as the server can be trusted with them."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_HASH_BYTES)
    for name, max_length in _STRINGS.items():
        is_partition_key = has_partitions and name == "tenant"
        schema.add_field(
            name, DataType.VARCHAR, max_length=max_length, is_partition_key=is_partition_key
        )
    for name in _ENUMS:
        schema.add_field(name, DataType.INT8)
    for name in (*_NUMBERS, *_COUNTERS, *_TIMES, "last_use_time"):
        schema.add_field(name, DataType.INT64)
    schema.add_field("importance", DataType.DOUBLE)
    for name in ("labels", "encoded_labels", HISTORY_FIELD):
        schema.add_field(name, DataType.JSON)
    schema.add_field(
        "label_tokens",
        DataType.ARRAY,
        element_type=DataType.VARCHAR,
        max_capacity=MAX_TOKENS,
        max_length=TOKEN_BYTES,
    )
    schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dimension)
    if has_keywords:
        _add_keywords(schema)
    else:
        schema.add_field("search_text", DataType.VARCHAR, max_length=_TEXT_BYTES)
    return schema


def keyword_trial_schema() -> Any:
    """The least that tells whether a server has keyword search."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_HASH_BYTES)
    _add_keywords(schema)
    return schema


def partition_trial_schema() -> Any:
    """The least that tells whether a server finds by its partition key what was upserted."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_HASH_BYTES)
    schema.add_field("tenant", DataType.VARCHAR, max_length=63, is_partition_key=True)
    schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=2)
    return schema


def _add_keywords(schema: Any) -> None:
    schema.add_field("search_text", DataType.VARCHAR, max_length=_TEXT_BYTES, enable_analyzer=True)
    schema.add_field(KEYWORD_FIELD, DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(
        Function(
            name="bm25",
            function_type=FunctionType.BM25,
            input_field_names=["search_text"],
            output_field_names=[KEYWORD_FIELD],
        )
    )


@dataclass(frozen=True)
class Index:
    """One index of a field."""

    field: str
    kind: str
    metric: str = ""
    numbers: tuple[tuple[str, int], ...] = ()

    def params(self) -> Any:
        indexes = MilvusClient.prepare_index_params()
        metric = {"metric_type": self.metric} if self.metric else {}
        indexes.add_index(
            self.field,
            index_type=self.kind,
            index_name=self.field,
            params=dict(self.numbers),
            **metric,
        )
        return indexes


# NOTE: milvus-lite takes any index type without a word, so a typo would show on a cluster only.
VECTOR_INDEX = Index(VECTOR_FIELD, "HNSW", "COSINE", (("M", 16), ("efConstruction", 128)))
KEYWORD_INDEX = Index(KEYWORD_FIELD, "SPARSE_INVERTED_INDEX", "BM25")


def index_choices(*, is_lite: bool) -> list[tuple[Index, ...]]:
    """Indexes of the collection, each with what older servers take instead."""
    scalar = [(Index(name, "INVERTED"), Index(name, "Trie")) for name in _INDEXED]
    # milvus-lite is small enough without.
    return [(VECTOR_INDEX,), (KEYWORD_INDEX,), *(() if is_lite else scalar)]


def row_id(tenant: str, memory_id: str) -> str:
    """Primary key of a memory."""
    return digest(tenant, memory_id)


def row_of(memory: Memory) -> dict[str, Any]:
    """A memory as it is stored."""
    row: dict[str, Any] = {name: getattr(memory, name) for name in (*_STRINGS, *_NUMBERS)}
    row["id"] = row_id(memory.tenant, memory.memory_id)
    row.update({name: int(getattr(memory, name)) for name in _ENUMS})
    row.update({name: getattr(memory.counters, name) for name in _COUNTERS})
    row.update({name: _stored_time(getattr(memory, name)) for name in _TIMES})
    row["last_use_time"] = _stored_time(memory.counters.last_use_time)
    row["importance"] = float(memory.importance)
    # Found by its hash, which is of the whole; a document as a question is kept in part.
    row["question"] = _start_of(memory.question)
    row["search_text"] = _start_of(memory.search_text)
    row["labels"] = dict(memory.labels)
    row["encoded_labels"] = encoded(memory.labels)
    row["label_tokens"] = tokens(memory.labels)
    row[HISTORY_FIELD] = stored_changes(memory.changes)
    row[VECTOR_FIELD] = list(memory.vector)
    return row


def memory_of(row: Mapping[str, Any]) -> Memory:
    """A stored row as a memory; without a vector or a history if none was asked for."""
    values: dict[str, Any] = {name: row[name] for name in (*_STRINGS, *_NUMBERS)}
    values.update({name: kind(row[name]) for name, kind in _ENUMS.items()})
    values.update({name: time_of(row[name]) for name in _TIMES})
    counts = {name: row[name] for name in _COUNTERS}
    return Memory(
        **values,
        importance=row["importance"],
        labels=dict(row["labels"]),
        counters=Counters(**counts, last_use_time=time_of(row["last_use_time"])),
        changes=changes_of(row[HISTORY_FIELD]) if HISTORY_FIELD in row else (),
        vector=tuple(row.get(VECTOR_FIELD, ())),
    )


def _stored_time(time: Any) -> int:
    return NEVER if time is None else microseconds(time)


def _start_of(text: str) -> str:
    return text.encode()[:_TEXT_BYTES].decode(errors="ignore")
