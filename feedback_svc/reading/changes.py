"""In which order events were recorded and decided on: where a watch goes on. Does no io.

Holds names and places, not events: a watcher that was away reads what became of each since then,
so nothing has to be kept for it meanwhile.
"""

import asyncio
from array import array
from bisect import bisect_right

from feedback_svc import core

MAX_CHUNK = 256


class TenantChanges:
    """Changes of one tenant's events, by their place in the stream."""

    def __init__(self) -> None:
        self._positions = array("q")
        self._names: list[str] = []
        self._news: asyncio.Future[None] | None = None
        # Rises when the broker lost what it had stored, and all places with it.
        self.epoch = 0

    @property
    def newest(self) -> int:
        """Place of the newest change; 0 if there is none."""
        return self._positions[-1] if self._positions else 0

    def num_after(self, position: int) -> int:
        return len(self._positions) - bisect_right(self._positions, position)

    def after(self, position: int) -> list[tuple[str, int]]:
        """The next changes behind a place: names, and the places to go on from."""
        start = bisect_right(self._positions, position)
        end = min(start + MAX_CHUNK, len(self._names))
        if end > start:
            # An erasure's changes share one place: a chunk that ended among them would come again.
            end = bisect_right(self._positions, self._positions[end - 1])
        return [(self._names[index], self._resume_at(index)) for index in range(start, end)]

    def add(self, name: str, position: int) -> None:
        self._positions.append(position)
        self._names.append(name)
        self._wake()

    def clear(self) -> None:
        del self._positions[:]
        self._names.clear()
        self.epoch += 1
        self._wake()

    async def wait(self) -> None:
        """Until something changes."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        # One future for all who wait: a watcher that leaves must not cancel it for the others.
        await asyncio.shield(self._news)

    def _resume_at(self, index: int) -> int:
        """An erasure changes many events in one place: only after the last is that place passed."""
        position = self._positions[index]
        is_last = index + 1 == len(self._positions) or self._positions[index + 1] != position
        return position if is_last else position - 1

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        self._news = None


class Changes:
    """Changes of all tenants; `hear` is the listener that the Journal tells of each."""

    def __init__(self) -> None:
        self._tenants: dict[str, TenantChanges] = {}
        self._last = 0

    def of(self, tenant: str) -> TenantChanges:
        return self._tenants.setdefault(tenant, TenantChanges())

    def hear(self, record: core.FeedbackRecord, position: int) -> None:
        if position < self._last:
            for changes in self._tenants.values():
                changes.clear()
        self._last = position
        self.of(record.tenant).add(record.name, position)
