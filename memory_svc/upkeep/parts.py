"""What keeps memory in order beside the calls: tombstones, sweep, counting; and its admin service.

Part of the composition root: it opens nothing, and knows which part needs which.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from memory_svc.announcements import Announcements
from memory_svc.ports import Embedder
from memory_svc.reembedding.dual_store import DualStore
from memory_svc.reembedding.jobs import BUCKET as JOBS_BUCKET
from memory_svc.reembedding.jobs import ReembedJobs
from memory_svc.reembedding.reembed import Reembedding, ReembedOptions, SideDoors
from memory_svc.service_admin import MemoryAdminService
from memory_svc.upkeep.burial import Burial
from memory_svc.upkeep.forgetting import Forgetting
from memory_svc.upkeep.importing import Import
from memory_svc.upkeep.purge import Purge
from memory_svc.upkeep.purge_ledger import BUCKET, PurgeLedger
from memory_svc.upkeep.stats import StatsCache
from memory_svc.upkeep.sweep import Sweep
from memory_svc.upkeep.tombstone_stream import TombstoneStream
from memory_svc.upkeep.tombstones import TombstoneFilter, Tombstones
from memory_svc.upkeep.usage import Usage
from memory_svc.upkeep.usage_events import UsageEvents
from memory_svc.verbs.memories import Memories
from selm.bus import Bus
from selm.erasure_bus import ErasureConsumer, ErasureStream
from selm.erasures import MEMORY


@dataclass(frozen=True)
class Parts:
    """What others opened."""

    # Behind the filter of tombstones.
    behind: DualStore
    doors: SideDoors
    embedder: Embedder
    bus: Bus
    announcements: Announcements
    clock: Callable[[], datetime]
    # Name of this process.
    instance: str
    reembed: ReembedOptions


class Graves:
    """The store without what was deleted, and what keeps it so."""

    def __init__(self, parts: Parts) -> None:
        tombstones = Tombstones()
        self._burial = Burial(parts.behind, tombstones, parts.announcements, parts.clock)
        self.stream = TombstoneStream(
            parts.bus, tombstones, parts.announcements, parts.clock, self._burial.note
        )
        self.store = TombstoneFilter(parts.behind, tombstones, self.stream.known, self._burial.note)

    async def bury(self, writing: asyncio.Lock) -> None:
        """Runs until cancelled: deletes again what turns up undeleted."""
        await self._burial.run(self.stream.replayed, writing)


class Upkeep:
    """Everything but the verbs of one memory."""

    def __init__(self, parts: Parts, graves: Graves, memories: Memories) -> None:
        self._graves, self._memories = graves, memories
        store, writing, clock = graves.store, memories.writing, parts.clock
        self.usage = Usage(store, writing)
        self._usage_events = UsageEvents(parts.bus, self.usage, store)
        self._sweep = Sweep(store, parts.behind, writing, clock)
        jobs = ReembedJobs(parts.bus.kv(JOBS_BUCKET), clock)
        self._reembedding = Reembedding(
            jobs, parts.behind, parts.doors, writing, parts.instance, parts.reembed, clock
        )
        ledger, stats = PurgeLedger(parts.bus.kv(BUCKET)), StatsCache(store, clock)
        forgetting = Forgetting(
            ErasureStream(parts.bus), store, memories, graves.stream, ledger, stats.forget, clock
        )
        self._erasures = ErasureConsumer(parts.bus, MEMORY, forgetting)
        self.service = MemoryAdminService(
            store,
            Purge(store, memories),
            ledger,
            Import(store, parts.embedder, parts.announcements, writing, clock),
            stats,
            self._reembedding,
            jobs,
            clock,
        )

    async def run(self, sweep_interval_s: float, usage_flush_s: float) -> None:
        """Runs until cancelled, with or without a bus."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._graves.bury(self._memories.writing))
            group.create_task(self._sweep.run(sweep_interval_s))
            group.create_task(self.usage.run(usage_flush_s))

    async def listen(self) -> None:
        """Runs until cancelled, once the streams exist."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._graves.stream.follow())
            group.create_task(self._erasures.run())
            group.create_task(self._reembedding.follow())
            group.create_task(self._usage_events.count_uses())
            group.create_task(self._usage_events.count_opinions())
