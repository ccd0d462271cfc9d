"""What a Milvus can do, known by trying: versions of servers tell little. Blocks; knows no memory.

Trials happen once, when a collection is created, on collections that are gone afterwards.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymilvus.exceptions import MilvusException

from memory_svc.store import schema
from memory_svc.store.faults import FAULTS, Fault, fault_of, text_of
from selm.log import get_logger

_log = get_logger("memory.store")

_NUM_ROWS = 16


def can_search_keywords(client: Any, collection: str, *, waits: bool) -> bool:
    """Whether it makes sparse vectors of texts."""
    try:
        with _trial_collection(client, collection, schema.keyword_trial_schema()) as name:
            client.create_index(name, schema.KEYWORD_INDEX.params(), sync=waits)
    except MilvusException as error:
        _raise_unless_refused(error)
        _log.warning("store_without_keyword_search", error=text_of(error))
        return False
    return True


def can_find_by_partition_key(client: Any, collection: str) -> bool:
    """Whether an upsert puts rows where a query looks for them.

    NOTE: Milvus 2.3.5 does not: it spreads upserted rows of one key over all partitions, and a
    query by that key misses nearly all of them.
    """
    rows = [
        {"id": str(n), "tenant": "t", schema.VECTOR_FIELD: [1.0, 0.0]} for n in range(_NUM_ROWS)
    ]
    try:
        with _trial_collection(client, collection, schema.partition_trial_schema()) as name:
            client.create_index(name, schema.VECTOR_INDEX.params())
            client.load_collection(name)
            client.upsert(name, rows)
            found = client.query(
                name, filter='tenant == "t"', output_fields=["id"], consistency_level="Strong"
            )
    except MilvusException as error:
        _raise_unless_refused(error)
        _log.warning("store_without_partition_key", error=text_of(error))
        return False
    if len(found) < _NUM_ROWS:
        _log.warning("store_without_partition_key", num_found=len(found), num_rows=_NUM_ROWS)
    return len(found) == _NUM_ROWS


def create_index(
    client: Any, collection: str, choices: tuple[schema.Index, ...], *, waits: bool
) -> None:
    """The first that the server takes: older ones know other names; waits for it if told to."""
    *others, last = choices
    for choice in others:
        try:
            client.create_index(collection, choice.params(), sync=waits)
        except MilvusException as error:
            _raise_unless_refused(error)
            _log.info("store_index_refused", index=choice.kind, error=text_of(error))
        else:
            return
    client.create_index(collection, last.params(), sync=waits)


@contextmanager
def _trial_collection(client: Any, collection: str, fields: Any) -> Iterator[str]:
    name = f"{collection}_try_{uuid.uuid4().hex[:8]}"
    try:
        client.create_collection(name, schema=fields)
        yield name
    finally:
        try:
            client.drop_collection(name)
        except FAULTS as error:
            _log.info("store_drop_failed", collection=name, error=text_of(error))


def _raise_unless_refused(error: MilvusException) -> None:
    """A server that is away or busy has not said what it can do."""
    if fault_of(error) is not Fault.REFUSED:
        raise error
