"""Lists, watches and exports the events of a tenant. Fulfils core.EventReader.

Only an export reads from the broker: the exchanges, which nobody keeps in memory.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from operator import attrgetter
from typing import Protocol

from feedback_svc import core
from feedback_svc.filters import matches
from feedback_svc.reading.changes import Changes, TenantChanges
from selm.errors import SelmError, unavailable

MAX_WATCHERS = 1000
# A watcher this many changes behind does not read what it asked for.
MAX_CHANGES_BEHIND = 4096
# Exchanges asked for at once: an export of any length holds no more than these.
_READ_AHEAD = 32
# Events looked at before others get their turn.
_SCAN = 2000


class Journal(Protocol):
    """What is known of stream FEEDBACK; see stream.journal."""

    def event(self, tenant: str, name: str) -> core.FeedbackRecord | None: ...

    def events(self, tenant: str) -> list[core.FeedbackRecord]: ...

    async def catch_up(self, tenant: str) -> None: ...


class Stored(Protocol):
    """What was said beside an event; RESOURCE_NOT_FOUND if it was purged. See stream.jetstream."""

    async def exchange(self, record: core.FeedbackRecord) -> core.Exchange | None: ...


# One line of an export; see render.export.
Line = Callable[[core.FeedbackRecord, core.Exchange | None], str]


class Reader:
    """Fulfils core.EventReader."""

    def __init__(
        self,
        journal: Journal,
        stored: Stored,
        changes: Changes,
        line: Line,
        max_watchers: int = MAX_WATCHERS,
    ) -> None:
        self._journal = journal
        self._stored = stored
        self._changes = changes
        self._line = line
        self._max_watchers = max_watchers
        self._num_watchers = 0

    async def newest(self, tenant: str) -> int:
        await self._journal.catch_up(tenant)
        return max((record.sequence for record in self._journal.events(tenant)), default=0)

    async def list(
        self,
        tenant: str,
        wanted: core.EventFilter,
        before: tuple[int, str] | None,
        limit: int,
    ) -> Sequence[core.FeedbackRecord]:
        await self._journal.catch_up(tenant)
        ordered = _in_order(self._journal.events(tenant))
        if before is not None:
            del ordered[bisect_left(ordered, before, key=_place) :]
        page: list[core.FeedbackRecord] = []
        async with aclosing(_matching(reversed(ordered), wanted)) as found:
            async for record in found:
                page.append(record)
                if len(page) == limit:
                    break
        return page

    async def watch(
        self, tenant: str, wanted: core.EventFilter, after: int | None
    ) -> AsyncGenerator[core.EventNews, None]:
        await self._journal.catch_up(tenant)
        changes = self._changes.of(tenant)
        with self._seat():
            if after is None:
                # NOTE: no await between these two, or a change could fall between.
                after, history = changes.newest, self._history(tenant, wanted)
                async for record in _matching(history, wanted):
                    yield core.EventNews(record, record.sequence)
            async for news in self._follow(tenant, changes, after):
                if matches(news.record, wanted):
                    yield news

    async def export(
        self, tenant: str, wanted: core.EventFilter, after: int, until: int
    ) -> AsyncGenerator[core.ExportedEvent, None]:
        await self._journal.catch_up(tenant)
        ordered = _in_order(self._journal.events(tenant))
        del ordered[bisect_right(ordered, until, key=attrgetter("sequence")) :]
        del ordered[: bisect_right(ordered, after, key=attrgetter("sequence"))]
        rest = [record async for record in _matching(ordered, wanted)]
        for start in range(0, len(rest), _READ_AHEAD):
            chunk = rest[start : start + _READ_AHEAD]
            lines = await asyncio.gather(*map(self._read, chunk))
            for record, line in zip(chunk, lines, strict=True):
                if line is not None:
                    yield core.ExportedEvent(record.sequence, line)

    def _history(self, tenant: str, wanted: core.EventFilter) -> Sequence[core.FeedbackRecord]:
        if not wanted.first_sequence:
            return ()
        return _in_order(self._journal.events(tenant))

    async def _follow(
        self, tenant: str, changes: TenantChanges, after: int
    ) -> AsyncGenerator[core.EventNews, None]:
        """Every change behind a place, then each as it comes."""
        epoch, is_live = changes.epoch, False
        while True:
            if changes.epoch != epoch:
                raise unavailable("BUS_UNAVAILABLE", "the stream began anew", stream="FEEDBACK")
            if is_live and changes.num_after(after) > MAX_CHANGES_BEHIND:
                raise _too_slow()
            chunk = changes.after(after)
            # A filter may let nothing of a long history through: others have their turn meanwhile.
            await asyncio.sleep(0)
            if not chunk:
                is_live = True
                await changes.wait()
            for name, position in chunk:
                record = self._journal.event(tenant, name)
                after = position
                if record is not None:
                    yield core.EventNews(record, position)

    async def _read(self, record: core.FeedbackRecord) -> str | None:
        """The line of an event after its newest decision; None if it was erased meanwhile."""
        try:
            exchange = await self._stored.exchange(record)
        except SelmError as error:
            if error.reason != "RESOURCE_NOT_FOUND":
                raise
            return None
        return self._line(self._journal.event(record.tenant, record.name) or record, exchange)

    @contextmanager
    def _seat(self) -> Iterator[None]:
        """Each watch holds a stream open: there are only so many."""
        if self._num_watchers >= self._max_watchers:
            counts = {"waiting": str(self._num_watchers), "limit": str(self._max_watchers)}
            raise SelmError("QUEUE_FULL", "too many watches are open", metadata=counts)
        self._num_watchers += 1
        try:
            yield
        finally:
            self._num_watchers -= 1


async def _matching(
    records: Iterable[core.FeedbackRecord], wanted: core.EventFilter
) -> AsyncGenerator[core.FeedbackRecord, None]:
    """Those that fit; a long search lets others be served in between."""
    for number, record in enumerate(records, 1):
        if matches(record, wanted):
            yield record
        if number % _SCAN == 0:
            await asyncio.sleep(0)


def _in_order(records: Sequence[core.FeedbackRecord]) -> list[core.FeedbackRecord]:
    # What this process recorded is known as it is acknowledged, not always in order.
    ordered = sorted(records, key=attrgetter("sequence"))
    # Erased events whose sequence nobody knows any more have none, and go by their names.
    num_unplaced = bisect_right(ordered, 0, key=attrgetter("sequence"))
    ordered[:num_unplaced] = sorted(ordered[:num_unplaced], key=attrgetter("name"))
    return ordered


def _place(record: core.FeedbackRecord) -> tuple[int, str]:
    return record.sequence, record.name


def _too_slow() -> SelmError:
    return SelmError(
        "CLIENT_TOO_SLOW",
        "the caller read too slowly; go on with the last resume_token",
        metadata={"buffered_frames": str(MAX_CHANGES_BEHIND)},
    )
