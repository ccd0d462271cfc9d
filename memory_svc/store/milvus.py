"""MemoryStore on Milvus or milvus-lite. A row is a memory; outside of this room none has rows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from memory_svc.conditions import Condition, matches
from memory_svc.core import Memory, Vector
from memory_svc.ports import Match, Neighbour
from memory_svc.store import schema
from memory_svc.store.collections import CollectionNote
from memory_svc.store.connection import StoreConnection
from memory_svc.store.filters import expression
from memory_svc.store.options import StoreOptions
from memory_svc.store.paging import Place, key_windows, newest_keys
from memory_svc.store.vectors import check_vector, check_vectors
from selm.errors import SelmError
from selm.log import get_logger

_log = get_logger("memory.store")

# What one query of Milvus may return at most.
MAX_ROWS = 16_384
# With histories, a row may have 80 KiB.
_SCAN_PAGE = 128
_FLUSH_TIMEOUT_S = 60
_LULL_S = 2.0


class MilvusStore:
    """One collection for all tenants."""

    def __init__(self, options: StoreOptions, max_rows: int = MAX_ROWS) -> None:
        self._options = options
        self._max_rows = max_rows
        self._connection = StoreConnection(options)
        self._has_said_so = False
        self._num_unflushed = 0
        self._lull: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    @property
    def generation(self) -> int:
        """Grows whenever the server was lost and opened again."""
        return self._connection.generation

    @property
    def is_lite(self) -> bool:
        """Whether it is a milvus-lite server; known once a call has gone through."""
        opened = self._connection.opened
        return opened is not None and opened.is_lite

    async def aclose(self) -> None:
        if self._lull is not None:
            self._lull.cancel()
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._connection.close()

    async def ping(self) -> str:
        """Version of the server, once the collection can be searched."""

        async def ask(client: Any) -> str:
            return str(await client.get_server_version())

        return await self._connection.call("ping", ask)

    async def note(self) -> CollectionNote:
        """Which version and which embedding model the collection is of, as of its opening."""
        await self.ping()
        assert self._connection.opened is not None
        return self._connection.opened.note

    async def get(self, tenant: str, memory_id: str) -> Memory | None:
        # By primary key: on milvus-lite a filter costs 25 times as much.
        found = await self._fetch([schema.row_id(tenant, memory_id)], schema.ALL_FIELDS)
        return found[0] if found else None

    async def get_all(self, tenant: str, memory_ids: Sequence[str]) -> list[Memory]:
        keys = [schema.row_id(tenant, memory_id) for memory_id in memory_ids]
        return await self._fetch(keys, schema.ALL_FIELDS)

    async def put(self, memories: Sequence[Memory]) -> None:
        check_vectors(memories, self._options.dimension)
        rows = [schema.row_of(memory) for memory in memories]
        if not rows:
            return

        async def write(client: Any) -> None:
            # NOTE: never insert: it silently keeps two rows of one key on a cluster.
            await client.upsert(self._connection.collection, rows)

        await self._connection.call("put", write)
        self._note_writes(len(rows))

    async def find(self, condition: Condition, limit: int) -> list[Memory]:
        rows = await self._query(expression(condition), schema.ALL_FIELDS, limit)
        return [schema.memory_of(row) for row in rows]

    async def newest(
        self, condition: Condition, limit: int, before: tuple[datetime, str] | None
    ) -> list[Memory]:
        async def ask(terms: list[str]) -> list[Place]:
            wanted = " and ".join([expression(condition), *terms])
            rows = await self._query(wanted, schema.PLACE_FIELDS, self._max_rows)
            return [(row["create_time"], row["memory_id"], row["id"]) for row in rows]

        keys = await newest_keys(ask, limit, before, self._max_rows)
        return await self._fetch(keys, schema.fields_for(schema.PLAIN_FIELDS, condition))

    async def nearest(self, condition: Condition, vector: Vector, limit: int) -> list[Neighbour]:
        check_vector(vector, self._options.dimension)
        params = {"metric_type": "COSINE", "params": {"ef": max(64, limit)}}
        found = await self._search(condition, schema.VECTOR_FIELD, list(vector), limit, params)
        return [Neighbour(memory, score) for memory, score in found]

    async def matching(self, condition: Condition, text: str, limit: int) -> list[Match]:
        if not text or not await self._has_keywords():
            return []
        params = {"metric_type": "BM25"}
        found = await self._search(condition, schema.KEYWORD_FIELD, text, limit, params)
        # NOTE: milvus-lite gives the scores as negative distances.
        return [Match(memory, abs(score)) for memory, score in found if score]

    async def count(self, condition: Condition) -> int:
        rows = await self._query(expression(condition), ["count(*)"], None)
        return int(rows[0]["count(*)"])

    async def scan(self, condition: Condition) -> AsyncIterator[list[Memory]]:
        async def ask(terms: list[str]) -> list[str]:
            wanted = " and ".join([expression(condition), *terms])
            rows = await self._query(wanted, ["id"], self._max_rows)
            return [row["id"] for row in rows]

        async for keys in key_windows(ask, self._max_rows):
            for first in range(0, len(keys), _SCAN_PAGE):
                some = keys[first : first + _SCAN_PAGE]
                memories = await self._fetch(some, schema.ALL_FIELDS)
                # Rows change meanwhile: what no longer fits is left out.
                if page := [memory for memory in memories if matches(condition, memory)]:
                    yield page

    async def _fetch(self, row_ids: Sequence[str], fields: list[str]) -> list[Memory]:
        """Those of the rows that are there, in the order of the keys."""
        if not row_ids:
            return []

        async def ask(client: Any) -> Any:
            return await client.get(
                self._connection.collection,
                ids=list(row_ids),
                output_fields=["id", *fields],
                consistency_level=self._options.consistency_level,
            )

        by_id = {row["id"]: row for row in await self._connection.call("get", ask)}
        return [schema.memory_of(by_id[row_id]) for row_id in row_ids if row_id in by_id]

    async def _query(self, wanted: str, fields: list[str], limit: int | None) -> Any:
        async def ask(client: Any) -> Any:
            return await client.query(
                self._connection.collection,
                filter=wanted,
                output_fields=fields,
                consistency_level=self._options.consistency_level,
                **({} if limit is None else {"limit": limit}),
            )

        return await self._connection.call("query", ask)

    async def _search(
        self, condition: Condition, field: str, key: Any, limit: int, params: dict[str, Any]
    ) -> list[tuple[Memory, float]]:
        async def ask(client: Any) -> Any:
            return await client.search(
                self._connection.collection,
                data=[key],
                anns_field=field,
                limit=limit,
                filter=expression(condition),
                output_fields=schema.fields_for(schema.HIT_FIELDS, condition),
                search_params=params,
                consistency_level=self._options.consistency_level,
            )

        (found,) = await self._connection.call("search", ask)
        return [(schema.memory_of(row["entity"]), float(row["distance"])) for row in found]

    async def _has_keywords(self) -> bool:
        if self._connection.opened is None:
            await self.ping()
        opened = self._connection.opened
        assert opened is not None
        if not opened.has_keywords and not self._has_said_so:
            self._has_said_so = True
            _log.warning("store_without_keyword_search", collection=opened.collection)
        return opened.has_keywords

    def _note_writes(self, num_rows: int) -> None:
        """milvus-lite scans unflushed rows one by one: it flushes after many, or in a lull.

        A cluster flushes by itself, and limits how often it may be told.
        """
        opened = self._connection.opened
        if opened is None or not opened.is_lite:
            return
        self._num_unflushed += num_rows
        if self._lull is not None:
            self._lull.cancel()
        is_enough = self._num_unflushed >= self._options.flush_num_writes
        delay_s = 0 if is_enough else _LULL_S
        self._lull = asyncio.get_running_loop().call_later(delay_s, self._start_flush)

    def _start_flush(self) -> None:
        self._num_unflushed = 0
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="milvus-flush")

    async def _flush(self) -> None:
        async def flush(client: Any) -> None:
            await client.flush(self._connection.collection, timeout=_FLUSH_TIMEOUT_S)

        try:
            # NOTE: meanwhile milvus-lite hides the rows it flushes, deletes among them.
            await self._connection.call("flush", flush, timeout_s=_FLUSH_TIMEOUT_S, is_alone=True)
        except SelmError as error:
            # Nothing is lost: the write-ahead log holds every row, and the next round flushes.
            _log.warning("store_flush_failed", error=str(error))
