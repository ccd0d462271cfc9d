"""The connection to Milvus: opened when needed, given up when it fails, opened by the next call.

A fault of the server leaves here as STORE_UNAVAILABLE, a statement that it refuses as INTERNAL.
Knows the collection, but no memory.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pymilvus import AsyncMilvusClient, MilvusClient

from memory_svc.store import schema
from memory_svc.store.faults import FAULTS, Fault, fault_of, text_of
from selm.errors import SelmError, unavailable
from selm.log import get_logger

_log = get_logger("memory.store")

T = TypeVar("T")

_LITE = "milvus_lite"
_PING_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class StoreOptions:
    """Where the store is and how it is spoken to."""

    uri: str
    token: str
    collection: str
    consistency_level: str
    timeout_s: float
    flush_num_writes: int
    dimension: int


class StoreConnection:
    """Holds the present client of one collection."""

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        self._client: Any = None
        self._opening = asyncio.Lock()
        self.is_lite = False

    async def call(
        self, what: str, ask: Callable[[Any], Awaitable[T]], *, timeout_s: float | None = None
    ) -> T:
        """One call within its time; a lost server gets a second chance with a new connection."""
        try:
            async with asyncio.timeout(timeout_s or self._options.timeout_s):
                try:
                    return await self._ask(ask)
                except FAULTS as error:
                    if fault_of(error) is not Fault.LOST:
                        raise
                    _log.warning("store_call_repeated", call=what, error=text_of(error))
                return await self._ask(ask)
        except FAULTS as error:
            fault = fault_of(error)
            if fault is Fault.REFUSED:
                # No fault of the server, and no better when repeated: whoever waits must not.
                _log.error("store_refused", call=what, error=text_of(error))
                raise SelmError("INTERNAL", "the memory store refused a statement") from error
            if fault is Fault.SLOW:
                await self._forget_if_silent()
            raise _unavailable(what, error) from error

    async def close(self) -> None:
        await self._forget(self._client)

    async def _ask(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        client = await self._open()
        try:
            return await ask(client)
        except FAULTS as error:
            # Others use this client: one refused statement must not close it under them.
            if fault_of(error) is Fault.LOST:
                await self._forget(client)
            raise

    async def _forget_if_silent(self) -> None:
        """One statement may be slow while the server answers others."""
        client = self._client
        if client is None:
            return
        try:
            async with asyncio.timeout(_PING_TIMEOUT_S):
                await client.get_server_version()
        except FAULTS as error:
            _log.warning("store_silent", error=text_of(error))
            await self._forget(client)

    async def _open(self) -> Any:
        """The client, once the collection is there and loaded."""
        if self._client is not None:
            return self._client
        async with self._opening:
            if self._client is None:
                try:
                    version = await asyncio.to_thread(prepare, self._options)
                except FAULTS as error:
                    # Whatever it is: nothing can be asked before the collection is there.
                    raise _unavailable("open", error) from error
                self.is_lite = version.startswith(_LITE)
                self._client = AsyncMilvusClient(
                    uri=self._options.uri,
                    token=self._options.token,
                    timeout=self._options.timeout_s,
                    # NOTE: else a client shares its channel, and its broken state, with the next.
                    dedicated=True,
                )
                _log.info("store_opened", uri=self._options.uri, server=version)
            return self._client

    async def _forget(self, client: Any) -> None:
        if client is None:
            return
        if self._client is client:
            self._client = None
        try:
            async with asyncio.timeout(1):
                await client.close()
        except FAULTS as error:
            _log.info("store_close_failed", error=text_of(error))


def prepare(options: StoreOptions) -> str:
    """Creates the collection if need be and loads it; the server's version. Blocks.

    NOTE: with the blocking client, since the other one cannot create an index on milvus-lite.
    """
    client = MilvusClient(
        uri=options.uri, token=options.token, timeout=options.timeout_s, dedicated=True
    )
    try:
        version = str(client.get_server_version())
        if not client.has_collection(options.collection):
            # Another replica may be as fast: the same collection again is no error.
            client.create_collection(
                options.collection,
                schema=schema.collection_schema(options.dimension),
                index_params=schema.collection_indexes(is_lite=version.startswith(_LITE)),
                consistency_level=options.consistency_level,
            )
        _check_dimension(client, options)
        # After a restart of the server the collection exists but answers no search.
        client.load_collection(options.collection)
        return version
    finally:
        client.close()


def _check_dimension(client: Any, options: StoreOptions) -> None:
    fields = client.describe_collection(options.collection)["fields"]
    vector = next(field for field in fields if field["name"] == schema.VECTOR_FIELD)
    dimension = int(vector["params"]["dim"])
    if dimension != options.dimension:
        # Unavailable, not refused: corrections must wait in their stream until this is mended.
        raise unavailable(
            "STORE_UNAVAILABLE",
            f"collection {options.collection} holds vectors of {dimension} numbers, the model "
            f"makes {options.dimension}: choose another SELM_MEMORY_COLLECTION",
            store="milvus",
        )


def _unavailable(what: str, error: BaseException) -> SelmError:
    _log.warning("store_unavailable", call=what, error=text_of(error))
    return unavailable("STORE_UNAVAILABLE", "the memory store does not answer", store="milvus")
