"""A bucket that is read to its end at start and then followed, so that a look costs no call."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from feedback_svc.stream.jetstream import answering
from selm.errors import SelmError
from selm.kv import Entry, KeyValue
from selm.log import get_logger

_RETRY_S = 0.5
_log = get_logger("feedback_svc.review")


@dataclass(frozen=True)
class Stored:
    """The fields of a key, and the revision that a write must name to replace them."""

    fields: Mapping[str, Any]
    revision: int


class WatchedBucket:
    """JSON objects by key. A write by this process is seen at once, others' when they are heard."""

    def __init__(
        self, bucket: KeyValue, timeout_s: float, changed: Callable[[str], None] = lambda _: None
    ) -> None:
        """`changed` is told the key of every change."""
        self._bucket = bucket
        self._timeout_s = timeout_s
        self._changed = changed
        self._stored: dict[str, Stored] = {}
        self.is_ready = False

    async def follow(self) -> None:
        """Runs until cancelled; is_ready once everything that was there at start is known."""
        awaited = await self._keys()
        self.is_ready = not awaited
        async for key, entry in self._bucket.watch():
            self._take(key, entry)
            awaited.discard(key)
            self.is_ready = self.is_ready or not awaited

    def get(self, key: str) -> Stored | None:
        return self._stored.get(key)

    def under(self, prefix: str) -> list[Stored]:
        return [stored for key, stored in self._stored.items() if key.startswith(prefix)]

    async def write(self, key: str, fields: Mapping[str, Any], before: Stored | None) -> Stored:
        """Replace what was read; RESOURCE_EXISTS or STALE_REVISION if somebody was faster."""
        value = json.dumps(fields).encode()
        async with answering(self._timeout_s):
            if before is None:
                revision = await self._bucket.create(key, value)
            else:
                revision = await self._bucket.update(key, value, before.revision)
        self._take(key, Entry(value, revision))
        return self._stored[key]

    async def read(self, key: str) -> Stored | None:
        """The value as the broker has it, for whoever found that somebody was faster."""
        async with answering(self._timeout_s):
            entry = await self._bucket.get(key)
        self._take(key, entry)
        return self._stored.get(key)

    async def _keys(self) -> set[str]:
        while True:
            try:
                return set(await self._bucket.keys())
            except SelmError as error:
                _log.warning("bucket_not_read", error=str(error))
                await asyncio.sleep(_RETRY_S)

    def _take(self, key: str, entry: Entry | None) -> None:
        known = self._stored.get(key)
        if entry is None:
            self._stored.pop(key, None)
        elif known is None or known.revision < entry.revision:
            self._stored[key] = Stored(json.loads(entry.value), entry.revision)
        else:
            return
        self._changed(key)
