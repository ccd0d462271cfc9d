"""How memories were used: counted in this process, added to their rows now and then.

Counts are not exact: what was counted within the last half minute is lost with the process, and a
generation that is delivered again counts again. Where more memories are in use than one flush
takes, the rest is written by later ones. They change neither update_time nor etag.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from memory_svc import metrics
from memory_svc.core import Counters, Memory, MemoryType, State
from memory_svc.ports import MemoryStore
from memory_svc.recall.search import Found
from selm.errors import SelmError
from selm.log import get_logger
from selm.questions import answer_contains

_log = get_logger("memory.usage")

# Memories with counts that wait; those of others are dropped and counted.
_MAX_WAITING = 20_000
# Rows written at a time, and in one flush: each is written whole, and its store has other work.
_CHUNK = 64
_MAX_FLUSHED = 512


@dataclass
class _Uses:
    numbers: dict[str, int] = field(default_factory=dict)
    last_use_time: datetime | None = None


class Usage:
    """Collects counts, and writes them."""

    def __init__(self, store: MemoryStore, writing: asyncio.Lock) -> None:
        """`writing` is held by whoever changes memories."""
        self._store = store
        self._writing = writing
        self._waiting: dict[tuple[str, str], _Uses] = {}

    def note_found(self, found: Found) -> None:
        """What one search gave."""
        for hit in found.hits:
            self.add(hit.memory.tenant, hit.memory.memory_id, "retrieved_count")
            metrics.VERDICTS.labels(hit.scope.verdict.name).inc()
        metrics.SEARCHES.labels(found.empty_reason.name).inc()

    def add(self, tenant: str, memory_id: str, *counts: str, time: datetime | None = None) -> None:
        """Adds one to each of these fields of Counters; `time` of an injection."""
        key = (tenant, memory_id)
        if key not in self._waiting and len(self._waiting) >= _MAX_WAITING:
            metrics.USES_DROPPED.inc()
            return
        uses = self._waiting.setdefault(key, _Uses())
        for count in counts:
            uses.numbers[count] = uses.numbers.get(count, 0) + 1
        if time is not None and (uses.last_use_time is None or uses.last_use_time < time):
            uses.last_use_time = time

    async def run(self, interval_s: float) -> None:
        """Runs until cancelled: writes what was counted, and the rest at the end."""
        try:
            while True:
                await asyncio.sleep(interval_s)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Writes what waits; what the store does not take waits on."""
        keys = list(self._waiting)[:_MAX_FLUSHED]
        waiting = {key: self._waiting.pop(key) for key in keys}
        for start in range(0, len(keys), _CHUNK):
            chunk = {key: waiting[key] for key in keys[start : start + _CHUNK]}
            try:
                await self._write(chunk)
            except SelmError as error:
                _log.info("uses_wait", memories=len(keys) - start, error=str(error))
                rest = {key: waiting[key] for key in keys[start:]}
                self._waiting = _merged(rest, self._waiting)
                return

    async def _write(self, chunk: Mapping[tuple[str, str], _Uses]) -> None:
        async with self._writing:
            rows = await asyncio.gather(*(self._store.get(*key) for key in chunk))
            used = [
                replace(row, counters=_counted(row.counters, uses))
                for row, uses in zip(rows, chunk.values(), strict=True)
                if row is not None and row.state is not State.DELETED
            ]
            if used:
                await self._store.put(used)


def judge(memory: Memory, answer: str, *, is_related: bool = False) -> str:
    """Which count an answer that was made with a memory adds to; "" if it says nothing of it.

    Other types than corrections can shape an answer without standing in it, and one that is merely
    related may be rightly left aside.
    """
    if not answer or not memory.text:
        return ""
    if answer_contains(memory.text, answer):
        return "agreed_count"
    is_contradicted = memory.type is MemoryType.CORRECTION and not is_related
    return "disagreed_count" if is_contradicted else ""


def _counted(counters: Counters, uses: _Uses) -> Counters:
    numbers = {name: getattr(counters, name) + number for name, number in uses.numbers.items()}
    times = [time for time in (counters.last_use_time, uses.last_use_time) if time is not None]
    return replace(counters, **numbers, last_use_time=max(times, default=None))


def _merged(
    one: dict[tuple[str, str], _Uses], other: dict[tuple[str, str], _Uses]
) -> dict[tuple[str, str], _Uses]:
    for key, uses in other.items():
        into = one.setdefault(key, _Uses())
        for count, number in uses.numbers.items():
            into.numbers[count] = into.numbers.get(count, 0) + number
        times = [time for time in (into.last_use_time, uses.last_use_time) if time is not None]
        into.last_use_time = max(times, default=None)
    return one
