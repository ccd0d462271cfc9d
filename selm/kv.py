"""A key-value bucket with compare-and-set, on JetStream KV; watches survive broker restarts.

A write that ended in BUS_UNAVAILABLE may have happened: read the key before deciding what it means.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import nats.js.errors
from nats.js.kv import KeyValue as NatsKeyValue

from selm.bus_errors import broker_errors
from selm.bus_setup import ensure_known
from selm.delivery import CaughtUp
from selm.errors import SelmError
from selm.nats_connection import NatsConnection
from selm.replay import ReplayRequest, read_stored, replay

_KEY = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*")
_OPERATION = "KV-Operation"
_MARKER = "Nats-Marker-Reason"


@dataclass(frozen=True)
class Entry:
    """A value and the revision that `update` must name to replace it."""

    value: bytes
    revision: int


class KeyValue:
    """One bucket. Keys are dotted tokens, the tenant first: `default.my-adapter.r01234567`."""

    def __init__(self, connection: NatsConnection, bucket: str) -> None:
        self._connection = connection
        self._stream = f"KV_{bucket}"
        self._subject = f"$KV.{bucket}."
        self._bucket = bucket

    async def get(self, key: str) -> Entry | None:
        """The present value; None if there is none or it was deleted."""
        store = self._store(key)
        with broker_errors():
            try:
                entry = await store.get(key)
            except nats.js.errors.KeyNotFoundError:
                return None
        # NOTE: a marker the server itself placed has no value and is not recognised by nats-py.
        return None if entry.value is None else Entry(entry.value, entry.revision)

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that must not exist; RESOURCE_EXISTS if it does."""
        store = self._store(key)
        with broker_errors():
            try:
                return int(await self._written(store.create(key, value)))
            except nats.js.errors.KeyWrongLastSequenceError:
                raise SelmError("RESOURCE_EXISTS", f"{self._bucket}: {key} exists") from None

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value read at `revision`; STALE_REVISION if somebody else was faster."""
        store = self._store(key)
        with broker_errors():
            try:
                return int(await self._written(store.update(key, value, last=revision)))
            except nats.js.errors.KeyWrongLastSequenceError:
                raise SelmError("STALE_REVISION", f"{self._bucket}: {key} changed") from None

    async def put(self, key: str, value: bytes) -> int:
        """Write unconditionally; returns the new revision."""
        store = self._store(key)
        with broker_errors():
            return int(await self._written(store.put(key, value)))

    async def delete(self, key: str) -> None:
        """Delete the key; its history stays until it ages out of the bucket."""
        store = self._store(key)
        with broker_errors():
            await self._written(store.delete(key))

    async def keys(self, prefix: str = "") -> list[str]:
        """The live keys that start with `prefix`, in the order of their last write."""
        request = self._request(prefix, is_headers_only=True)
        with broker_errors():
            messages = await read_stored(self._connection, request)
        live = [message for message in messages if not _is_deletion(message)]
        return [key for key in map(self._key_of, live) if key.startswith(prefix)]

    async def watch(self, prefix: str = "") -> AsyncIterator[tuple[str, Entry | None]]:
        """Present values first, then every change; None stands for a deletion. Never ends."""
        async for item in replay(self._connection, self._request(prefix)):
            if isinstance(item, CaughtUp):
                continue
            key = self._key_of(item)
            if key.startswith(prefix):
                entry = Entry(item.data, item.metadata.sequence.stream)
                yield key, None if _is_deletion(item) else entry

    def _store(self, key: str) -> Any:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a key: {key!r}")
        jetstream = self._connection.jetstream()
        return NatsKeyValue(self._bucket, self._stream, self._subject, jetstream, True)

    async def _written(self, write: Any) -> Any:
        try:
            return await write
        except nats.js.errors.NoStreamResponseError:
            # Created here so that the repeat, which the error asks for, finds the bucket.
            await ensure_known(self._connection.jetstream(), self._stream)
            raise

    def _request(self, prefix: str, *, is_headers_only: bool = False) -> ReplayRequest:
        whole_tokens = prefix.rpartition(".")[0]
        subject = self._subject + (f"{whole_tokens}.>" if whole_tokens else ">")
        return ReplayRequest(
            self._stream, (subject,), is_last_per_subject=True, is_headers_only=is_headers_only
        )

    def _key_of(self, message: Any) -> str:
        return str(message.subject).removeprefix(self._subject)


def _is_deletion(message: Any) -> bool:
    headers = message.headers or {}
    return _OPERATION in headers or _MARKER in headers
