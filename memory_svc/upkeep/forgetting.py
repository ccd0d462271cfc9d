"""memory_svc's part of an erasure: everything remembered for a user, hidden at once and for good.

    HIDDEN      whatever was remembered when the order came is deleted, tombstones first
    CONFIRMED   once feedback_svc has purged the user's events: their memories are deleted too, and
                those not remembered yet have a tombstone, so that none is stored any more
Done again after a crash it deletes what is left, and nothing that was remembered since.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from memory_svc.conditions import Condition
from memory_svc.core import memory_id_of
from memory_svc.ports import MemoryStore
from memory_svc.upkeep.purge import Purge
from memory_svc.upkeep.purge_ledger import PurgeLedger
from memory_svc.upkeep.tombstone_stream import TombstoneStream
from memory_svc.upkeep.tombstones import Tombstone, bare_memory
from memory_svc.verbs.history import SERVICE
from memory_svc.verbs.memories import Memories
from selm import streams
from selm.erasure_bus import ErasureStream
from selm.erasure_events import erasure_id_of
from selm.erasures import FEEDBACK, MEMORY, ErasedEvent, Erasure, ErasureOrder, ReceiptState
from selm.testing import failpoint

_CHUNK = 64


class Forgetting:
    """Fulfils selm.erasure_bus.Act."""

    def __init__(
        self,
        stream: ErasureStream,
        store: MemoryStore,
        memories: Memories,
        tombstones: TombstoneStream,
        ledger: PurgeLedger,
        on_deleted: Callable[[str], None],
        clock: Callable[[], datetime],
    ) -> None:
        """`on_deleted` hears of a tenant whose memories became fewer."""
        self._stream = stream
        self._store = store
        self._memories = memories
        self._purge = Purge(store, memories)
        self._tombstones = tombstones
        self._ledger = ledger
        self._on_deleted = on_deleted
        self._clock = clock

    async def __call__(self, erasure: Erasure) -> None:
        """Does what is next; again, what is left of it."""
        order = erasure.order
        is_purged = erasure.receipt(FEEDBACK).state in {ReceiptState.HIDDEN, ReceiptState.CONFIRMED}
        try:
            await self._delete_known(order)
            failpoint("memory.forget_hidden")
            if is_purged:
                purged = await self._stream.purged(order)
                await self._delete_told(order, purged.events)
                failpoint("memory.forget_told")
        finally:
            self._on_deleted(order.tenant)
        receipt = replace(
            erasure.receipt(MEMORY),
            state=ReceiptState.CONFIRMED if is_purged else ReceiptState.HIDDEN,
            num_memories=await self._tombstones.count(order.tenant, order.name),
            trouble=None,
        )
        await self._stream.tell(order, receipt)

    async def _delete_known(self, order: ErasureOrder) -> None:
        """As of when the order was first heard here: what was remembered later is new."""
        erasure_id, digest = erasure_id_of(order.name), streams.user_hash(order.user)
        entry = await self._ledger.begin(order.tenant, erasure_id, digest, self._clock())
        condition = Condition(order.tenant, user=order.user, end_create_time=entry.time)
        await self._purge.delete(condition, order.name)

    async def _delete_told(self, order: ErasureOrder, events: Sequence[ErasedEvent]) -> None:
        """Memories of purged events, by name: whichever clock or replica made them, and when."""
        ids = [memory_id_of(order.tenant, event.name) for event in events if event.lesson]
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            found = await self._store.get_all(order.tenant, chunk)
            await self._memories.delete_all(found, order.name)
            there = {memory.memory_id for memory in found}
            for memory_id in (each for each in chunk if each not in there):
                # Its event may be in the hands of a replica right now.
                tombstone = Tombstone(order.user, self._clock())
                await self._tombstones.record(
                    bare_memory(order.tenant, memory_id, tombstone), SERVICE
                )
