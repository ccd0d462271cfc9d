"""Files in a JetStream object store, in chunks of 1 MiB; reading resumes across broker restarts."""

import asyncio
from pathlib import Path
from typing import Any

import nats.js.errors
from nats.js import api
from nats.js.object_store import ObjectStore

from selm.bus_errors import broker_errors
from selm.bus_setup import ensure_objects
from selm.delivery import CaughtUp
from selm.errors import SelmError
from selm.nats_connection import NatsConnection
from selm.replay import ReplayRequest, read_stored, replay

_CHUNK_BYTES = 1024 * 1024
# At most this many chunks on the way: 8 MiB of memory whatever the size of the artifact.
_NUM_CHUNKS_AHEAD = 8
_STALL_TIMEOUT_S = 30.0


class ObjectBucket:
    """One object store; objects are written once and never changed."""

    def __init__(self, connection: NatsConnection, bucket: str) -> None:
        self._connection = connection
        self._bucket = bucket
        self._stream = f"OBJ_{bucket}"

    async def put(self, name: str, path: Path) -> int:
        """Store a file under a name, unless it is there with the same size; returns that size."""
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        with broker_errors():
            await ensure_objects(self._connection.jetstream(), self._bucket)
            present = await self._info(name)
            if present is not None and present.size == size_bytes:
                return size_bytes
            options = api.ObjectMetaOptions(max_chunk_size=_CHUNK_BYTES)
            meta = api.ObjectMeta(name=name, options=options)
            with await asyncio.to_thread(path.open, "rb") as file:
                await self._store().put(name, file, meta=meta)
        return size_bytes

    async def get(self, name: str, into: Path) -> None:
        """Write an object to a file; ARTIFACT_UNAVAILABLE if it is not there or not whole."""
        with broker_errors():
            info = await self._info(name)
        if info is None:
            raise SelmError("ARTIFACT_UNAVAILABLE", f"no artifact {name} in {self._bucket}")
        with await asyncio.to_thread(into.open, "wb") as file:
            await self._copy_chunks(info, file)

    async def delete(self, name: str) -> None:
        """Take an object and its bytes away for good; nothing happens if it is not there."""
        with broker_errors():
            info = await self._info(name)
            if info is None:
                return
            subject = f"$O.{self._bucket}.C.{info.nuid}"
            request = ReplayRequest(self._stream, (subject,), is_headers_only=True)
            for chunk in await read_stored(self._connection, request):
                # The broker overwrites these bytes on its disk; a purge would only forget them.
                sequence = chunk.metadata.sequence.stream
                await self._connection.jetstream().delete_msg(self._stream, sequence)
            await self._store().delete(name)

    async def _copy_chunks(self, info: Any, file: Any) -> None:
        subject = f"$O.{self._bucket}.C.{info.nuid}"
        request = ReplayRequest(self._stream, (subject,), batch=_NUM_CHUNKS_AHEAD)
        chunks = replay(self._connection, request)
        num_bytes = 0
        try:
            while num_bytes < info.size:
                # The broker may restart meanwhile: the replay goes on where it was.
                chunk = await asyncio.wait_for(anext(chunks), _STALL_TIMEOUT_S)
                if isinstance(chunk, CaughtUp):
                    raise SelmError("ARTIFACT_UNAVAILABLE", f"{info.name}: chunks are missing")
                num_bytes += await asyncio.to_thread(file.write, chunk.data)
        except TimeoutError:
            raise SelmError("ARTIFACT_UNAVAILABLE", f"{info.name}: the bus stalled") from None
        finally:
            await chunks.aclose()

    async def _info(self, name: str) -> Any:
        try:
            return await self._store().get_info(name)
        except nats.js.errors.NotFoundError:
            return None

    def _store(self) -> Any:
        return ObjectStore(self._bucket, self._stream, self._connection.jetstream())
