"""Generations that were looked up a moment ago: signals about one answer come close together.

A generation never changes once it is published. Bounded by bytes and by age, so that what was
purged elsewhere is not held for long; an erasure empties it at once.
"""

import asyncio
from collections import OrderedDict

from feedback_svc import core

_MAX_BYTES = 16 * 1024 * 1024
_MAX_AGE_S = 30.0
# What a record costs beside its texts.
_OVERHEAD_BYTES = 1024


class RecentGenerations:
    """Records by tenant and name, the least recently looked up given away first."""

    def __init__(self, max_bytes: int = _MAX_BYTES, max_age_s: float = _MAX_AGE_S) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._num_bytes = 0
        self._records: OrderedDict[tuple[str, str], tuple[float, core.GenerationRecord]] = (
            OrderedDict()
        )

    def find(self, tenant: str, name: str) -> core.GenerationRecord | None:
        key = (tenant, name)
        held = self._records.get(key)
        if held is None:
            return None
        time, record = held
        if asyncio.get_running_loop().time() - time > self._max_age_s:
            self._drop(key)
            return None
        self._records.move_to_end(key)
        return record

    def keep(self, tenant: str, record: core.GenerationRecord) -> None:
        key = (tenant, record.name)
        if key in self._records:
            self._drop(key)
        self._records[key] = (asyncio.get_running_loop().time(), record)
        self._num_bytes += _size_of(record)
        while self._num_bytes > self._max_bytes:
            self._drop(next(iter(self._records)))

    def clear(self) -> None:
        self._records.clear()
        self._num_bytes = 0

    def _drop(self, key: tuple[str, str]) -> None:
        _, record = self._records.pop(key)
        self._num_bytes -= _size_of(record)


def _size_of(record: core.GenerationRecord) -> int:
    exchange = record.exchange
    if exchange is None:
        return _OVERHEAD_BYTES
    num_characters = len(exchange.question) + len(exchange.answer)
    return _OVERHEAD_BYTES + len(exchange.content) + 4 * num_characters
