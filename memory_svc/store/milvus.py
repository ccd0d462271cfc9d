"""MemoryStore on Milvus or milvus-lite. A row is a memory; outside of this room none has rows."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from memory_svc.core import Condition, Memory, Neighbour, Vector
from memory_svc.store import schema
from memory_svc.store.connection import StoreConnection, StoreOptions
from memory_svc.store.filters import expression, microseconds
from selm.errors import SelmError
from selm.log import get_logger

_log = get_logger("memory.store")

# What one query of Milvus may return at most.
MAX_ROWS = 16_384
_FLUSH_TIMEOUT_S = 60
_LULL_S = 2.0


class MilvusStore:
    """One collection for all tenants."""

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        self._connection = StoreConnection(options)
        self._num_unflushed = 0
        self._lull: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

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

    async def get(self, tenant: str, memory_id: str) -> Memory | None:
        key = schema.row_id(tenant, memory_id)

        async def ask(client: Any) -> Any:
            # By primary key: on milvus-lite a filter costs 25 times as much.
            return await client.get(
                self._options.collection,
                ids=[key],
                output_fields=schema.ALL_FIELDS,
                consistency_level=self._options.consistency_level,
            )

        rows = await self._connection.call("get", ask)
        return schema.memory_of(rows[0]) if rows else None

    async def put(self, memories: Sequence[Memory]) -> None:
        rows = [schema.row_of(memory) for memory in memories]

        async def write(client: Any) -> None:
            # NOTE: never insert: it silently keeps two rows of one key on a cluster.
            await client.upsert(self._options.collection, rows)

        await self._connection.call("put", write)
        self._note_writes(len(rows))

    async def find(self, condition: Condition, limit: int) -> list[Memory]:
        rows = await self._query(condition, schema.ALL_FIELDS, limit)
        return [schema.memory_of(row) for row in rows]

    async def newest(
        self, condition: Condition, limit: int, before: tuple[datetime, str] | None
    ) -> list[Memory]:
        # Milvus does not sort, so the places of all are sorted here and one page is fetched.
        rows = await self._query(condition, schema.PLACE_FIELDS, MAX_ROWS)
        places = sorted((row["create_time"], row["memory_id"], row["id"]) for row in rows)
        places.reverse()
        if before is not None:
            last = (microseconds(before[0]), before[1])
            places = [place for place in places if place[:2] < last]
        return await self._fetch([row_id for _, _, row_id in places[:limit]])

    async def nearest(self, condition: Condition, vector: Vector, limit: int) -> list[Neighbour]:
        async def ask(client: Any) -> Any:
            return await client.search(
                self._options.collection,
                data=[list(vector)],
                anns_field=schema.VECTOR_FIELD,
                limit=limit,
                filter=expression(condition),
                output_fields=schema.PLAIN_FIELDS,
                search_params={"metric_type": "COSINE", "params": {"ef": max(64, limit)}},
                consistency_level=self._options.consistency_level,
            )

        (found,) = await self._connection.call("nearest", ask)
        return [Neighbour(schema.memory_of(row["entity"]), float(row["distance"])) for row in found]

    async def _fetch(self, row_ids: Sequence[str]) -> list[Memory]:
        if not row_ids:
            return []

        async def ask(client: Any) -> Any:
            return await client.get(
                self._options.collection,
                ids=list(row_ids),
                output_fields=["id", *schema.PLAIN_FIELDS],
                consistency_level=self._options.consistency_level,
            )

        by_id = {row["id"]: row for row in await self._connection.call("get", ask)}
        return [schema.memory_of(by_id[row_id]) for row_id in row_ids if row_id in by_id]

    async def _query(self, condition: Condition, fields: list[str], limit: int) -> Any:
        async def ask(client: Any) -> Any:
            return await client.query(
                self._options.collection,
                filter=expression(condition),
                output_fields=fields,
                limit=limit,
                consistency_level=self._options.consistency_level,
            )

        return await self._connection.call("query", ask)

    def _note_writes(self, num_rows: int) -> None:
        """milvus-lite scans unflushed rows one by one: it flushes after many, or in a lull.

        A cluster flushes by itself, and limits how often it may be told.
        """
        if not self._connection.is_lite:
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
            await client.flush(self._options.collection, timeout=_FLUSH_TIMEOUT_S)

        try:
            await self._connection.call("flush", flush, timeout_s=_FLUSH_TIMEOUT_S)
        except SelmError as error:
            # Nothing is lost: the write-ahead log holds every row, and the next round flushes.
            _log.warning("store_flush_failed", error=str(error))
