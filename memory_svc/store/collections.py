"""Creates, upgrades and loads the collection; blocks. Knows versions and aliases, and no memory.

The configured name is an alias of a collection that carries its version and embedding model in its
name; a collection gets the alias when it is complete, so nothing half-made ever answers.
NOTE: with the blocking client, since the other one cannot create an index on milvus-lite.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from memory_svc.core import digest
from memory_svc.store import schema
from memory_svc.store.migrations import copy_rows
from memory_svc.store.notes import CollectionNote as CollectionNote
from memory_svc.store.notes import note_of, unusable
from memory_svc.store.options import StoreOptions
from memory_svc.store.trials import can_find_by_partition_key, can_search_keywords, create_index
from selm.log import get_logger

_log = get_logger("memory.store")

_LITE = "milvus_lite"
_FLUSH_TIMEOUT_S = 60


@dataclass(frozen=True)
class Opened:
    """A collection that is ready, and what its server can do."""

    server: str
    collection: str
    note: CollectionNote
    has_keywords: bool

    @property
    def is_lite(self) -> bool:
        return self.server.startswith(_LITE)


def prepare(
    options: StoreOptions,
    may_go_on: Callable[[], bool] = lambda: True,
    opened_before: str = "",
) -> Opened:
    """Creates or upgrades the collection if need be, and loads it.

    The one that was opened before is opened again, wherever the alias points now.
    """
    with _connected(options) as client:
        server = str(client.get_server_version())
        name = options.physical or options.collection
        if options.physical:
            create_collection(client, options, options.physical)
        elif opened_before and client.has_collection(opened_before):
            name = opened_before
        elif not client.has_collection(options.collection):
            _start(client, options)
        note = note_of(client, name)
        _check_dimension(client, options, name)
        _check_model(options, note)
        if note.version < schema.VERSION:
            _upgrade(client, options, note, may_go_on)
            name = options.collection
            note = note_of(client, name)
        # After a restart of the server the collection exists but answers no search.
        client.load_collection(name)
        described = client.describe_collection(name)
        has_keywords = any(field["name"] == schema.KEYWORD_FIELD for field in described["fields"])
        return Opened(server, described["collection_name"], note, has_keywords)


@contextmanager
def _connected(options: StoreOptions) -> Iterator[Any]:
    """A blocking client of its own, closed at the end of the block."""
    client = MilvusClient(
        uri=options.uri, token=options.token, timeout=options.timeout_s, dedicated=True
    )
    try:
        yield client
    finally:
        client.close()


def physical_name(options: StoreOptions) -> str:
    """Of the collection that these options would create."""
    model = digest(options.embedding_model)[:8]
    return f"{options.collection}_v{schema.VERSION}_{model}"


def create_collection(client: Any, options: StoreOptions, name: str) -> None:
    """A collection with its indexes, loaded; one that exists is completed. It gets no alias here.

    Another replica may be as fast: the same collection again is no error.
    """
    is_lite = str(client.get_server_version()).startswith(_LITE)
    # NOTE: milvus-lite has an index as soon as it answers; the client would wait half a second.
    waits = not is_lite
    if not client.has_collection(name):
        fields = schema.collection_schema(
            options.dimension,
            has_keywords=can_search_keywords(client, options.collection, waits=waits),
            has_partitions=is_lite or can_find_by_partition_key(client, options.collection),
        )
        note = CollectionNote(schema.VERSION, options.embedding_model, options.embedding_source)
        client.create_collection(
            name,
            schema=fields,
            consistency_level=options.consistency_level,
            properties=note.properties,
        )
    names = {field["name"] for field in client.describe_collection(name)["fields"]}
    missing = names - set(client.list_indexes(name))
    for choices in schema.index_choices(is_lite=is_lite):
        if choices[0].field in missing:
            create_index(client, name, choices, waits=waits)
    client.load_collection(name)


def _start(client: Any, options: StoreOptions) -> None:
    """No collection answers to the name: a new one does, or one that only lacks the alias."""
    # NOTE: the latter is what a kill leaves between dropping an old collection and naming the new.
    complete = [name for name in _siblings(client, options) if name != physical_name(options)]
    name = complete[0] if complete else physical_name(options)
    create_collection(client, options, name)
    _give_alias(client, options, name)


def _upgrade(
    client: Any, options: StoreOptions, note: CollectionNote, may_go_on: Callable[[], bool]
) -> None:
    """Copies all rows to a new collection, gives it the alias, and drops the old one."""
    source = client.describe_collection(options.collection)["collection_name"]
    target = physical_name(options)
    _log.warning("store_upgrade_started", source=source, target=target, version=schema.VERSION)
    # Of an upgrade that was begun with another model: none of it ever answered.
    for name in _siblings(client, options):
        if name not in (source, target):
            client.drop_collection(name)
    create_collection(client, options, target)
    client.load_collection(source)
    if not copy_rows(client, source, target, note.version, may_go_on):
        raise unusable("the upgrade of the collection was interrupted")
    # Else milvus-lite would scan every row one by one until the next flush.
    client.flush(target, timeout=_FLUSH_TIMEOUT_S)
    if source == options.collection:
        client.drop_collection(source)
        _give_alias(client, options, target)
    else:
        client.alter_alias(target, options.collection)
        client.drop_collection(source)
    _log.warning("store_upgraded", collection=target)


def _give_alias(client: Any, options: StoreOptions, name: str) -> None:
    try:
        client.create_alias(name, options.collection)
    except MilvusException:
        # Another replica was faster.
        if not client.has_collection(options.collection):
            raise


def _siblings(client: Any, options: StoreOptions) -> list[str]:
    """Collections of this version that the configured name may stand for."""
    pattern = re.compile(rf"{re.escape(options.collection)}_v{schema.VERSION}_[0-9a-f]{{8}}")
    return sorted(name for name in client.list_collections() if pattern.fullmatch(name))


def current_note(options: StoreOptions) -> CollectionNote | None:
    """What the collection behind the alias says of itself; None if there is none yet. Blocks."""
    with _connected(options) as client:
        if not client.has_collection(options.collection):
            return None
        return note_of(client, options.collection)


def make_current(options: StoreOptions, name: str) -> None:
    """Gives the alias to a collection, in one step for whoever opens it from now on. Blocks."""
    with _connected(options) as client:
        client.alter_alias(name, options.collection)


def drop_others(options: StoreOptions) -> None:
    """Deletes every collection of ours that has not the alias. Blocks."""
    with _connected(options) as client:
        current = client.describe_collection(options.collection)["collection_name"]
        for name in _siblings(client, options):
            if name != current:
                client.drop_collection(name)
                _log.info("store_collection_dropped", collection=name)


def _check_model(options: StoreOptions, note: CollectionNote) -> None:
    """Vectors of two models have nothing to say to each other, whatever their length."""
    if note.embedding_model and note.embedding_model != options.embedding_model:
        raise unusable(
            f"collection {options.collection} holds vectors of {note.embedding_model}, this "
            f"process makes those of {options.embedding_model}: set SELM_MEMORY_EMBEDDING_MODEL="
            f"{note.embedding_source} and move memory with `selm memory reembed`"
        )


def _check_dimension(client: Any, options: StoreOptions, name: str) -> None:
    fields = client.describe_collection(name)["fields"]
    vector = next(field for field in fields if field["name"] == schema.VECTOR_FIELD)
    dimension = int(vector["params"]["dim"])
    if dimension != options.dimension:
        raise unusable(
            f"collection {options.collection} holds vectors of {dimension} numbers, the model "
            f"makes {options.dimension}: choose another SELM_MEMORY_COLLECTION"
        )
