"""What was deleted, and a store that gives none of it back, whatever the store behind it holds.

A row can turn up undeleted: its store was restored from a backup, or the process died between the
two writes of a delete. Knows no bus; `tombstone_stream` fills the set.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from memory_svc.conditions import Condition, matches
from memory_svc.core import Memory, MemoryType, State, Vector, Visibility
from memory_svc.ports import Match, MemoryStore, Neighbour

T = TypeVar("T")

# What was asked for grows up to this where deleted rows stand before the wanted ones.
_MAX_ROWS = 16_384


@dataclass(frozen=True)
class Tombstone:
    """A delete: whose memory, and when."""

    user: str
    time: datetime


class Tombstones:
    """The deleted ids of every tenant, as far as this process has heard of them."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, dict[str, Tombstone]] = {}
        # One string for all memories of a user: there may be millions of tombstones.
        self._users: dict[str, str] = {}

    def __len__(self) -> int:
        return sum(len(ids) for ids in self._by_tenant.values())

    def add(self, tenant: str, memory_id: str, tombstone: Tombstone) -> None:
        user = self._users.setdefault(tombstone.user, tombstone.user)
        ids = self._by_tenant.setdefault(tenant, {})
        ids.setdefault(memory_id, replace(tombstone, user=user))

    def find(self, tenant: str, memory_id: str) -> Tombstone | None:
        return self._by_tenant.get(tenant, {}).get(memory_id)

    def tenants(self) -> list[str]:
        return list(self._by_tenant)

    def ids(self, tenant: str) -> list[str]:
        return list(self._by_tenant.get(tenant, ()))


class TombstoneFilter:
    """A MemoryStore in front of another: reads give a tombstone for what was deleted, writes keep
    one. Counts are those of the store behind, and so may include a row that is not yet found."""

    def __init__(
        self,
        store: MemoryStore,
        tombstones: Tombstones,
        known: Callable[[], Awaitable[None]],
        on_undeleted: Callable[[str, str], None],
    ) -> None:
        """`known` returns when the set may be relied on; `on_undeleted` hears of a tenant and id
        whose row in the store behind is not deleted."""
        self._store = store
        self._tombstones = tombstones
        self._known = known
        self._on_undeleted = on_undeleted

    async def get(self, tenant: str, memory_id: str) -> Memory | None:
        await self._known()
        memory = await self._store.get(tenant, memory_id)
        if memory is not None:
            return self._seen(memory)
        return self._without_row(tenant, memory_id)

    async def get_all(self, tenant: str, memory_ids: Sequence[str]) -> list[Memory]:
        await self._known()
        found = [self._seen(row) for row in await self._store.get_all(tenant, memory_ids)]
        there = {memory.memory_id for memory in found}
        lost = [self._without_row(tenant, each) for each in memory_ids if each not in there]
        return [*found, *(memory for memory in lost if memory is not None)]

    async def put(self, memories: Sequence[Memory]) -> None:
        await self._store.put([self._buried(memory) for memory in memories])

    async def find(self, condition: Condition, limit: int) -> list[Memory]:
        async def ask(number: int) -> list[Memory]:
            return await self._store.find(condition, number)

        return await self._enough(ask, limit, lambda found: self._kept(condition, found))

    async def newest(
        self, condition: Condition, limit: int, before: tuple[datetime, str] | None
    ) -> list[Memory]:
        async def ask(number: int) -> list[Memory]:
            return await self._store.newest(condition, number, before)

        return await self._enough(ask, limit, lambda found: self._kept(condition, found))

    async def nearest(self, condition: Condition, vector: Vector, limit: int) -> list[Neighbour]:
        async def ask(number: int) -> list[Neighbour]:
            return await self._store.nearest(condition, vector, number)

        return await self._enough(
            ask, limit, lambda found: [n for n in found if self._is_kept(condition, n.memory)]
        )

    async def matching(self, condition: Condition, text: str, limit: int) -> list[Match]:
        async def ask(number: int) -> list[Match]:
            return await self._store.matching(condition, text, number)

        return await self._enough(
            ask, limit, lambda found: [m for m in found if self._is_kept(condition, m.memory)]
        )

    async def count(self, condition: Condition) -> int:
        await self._known()
        return await self._store.count(condition)

    async def scan(self, condition: Condition) -> AsyncIterator[list[Memory]]:
        await self._known()
        async for page in self._store.scan(condition):
            yield self._kept(condition, page)

    async def _enough(
        self,
        ask: Callable[[int], Awaitable[list[T]]],
        limit: int,
        keep: Callable[[list[T]], list[T]],
    ) -> list[T]:
        """Asks for more while deleted rows take the places of others."""
        await self._known()
        number = limit
        while True:
            found = await ask(number)
            kept = keep(found)
            is_all = len(found) < number or number >= _MAX_ROWS
            if len(kept) >= limit or len(kept) == len(found) or is_all:
                return kept[:limit]
            number = min(2 * number, _MAX_ROWS)

    def _kept(self, condition: Condition, found: Iterable[Memory]) -> list[Memory]:
        return [self._seen(memory) for memory in found if self._is_kept(condition, memory)]

    def _is_kept(self, condition: Condition, memory: Memory) -> bool:
        seen = self._seen(memory)
        if self._tombstones.find(memory.tenant, memory.memory_id) is None:
            return True
        # Asked even if its row is deleted: it may have been so only since it was found.
        return matches(condition, seen)

    def _seen(self, memory: Memory) -> Memory:
        buried = self._buried(memory)
        if buried is not memory:
            self._on_undeleted(memory.tenant, memory.memory_id)
        return buried

    def _without_row(self, tenant: str, memory_id: str) -> Memory | None:
        """Not even a row is left of it in a restored store: it must not be stored as new."""
        tombstone = self._tombstones.find(tenant, memory_id)
        return None if tombstone is None else bare_memory(tenant, memory_id, tombstone)

    def _buried(self, memory: Memory) -> Memory:
        tombstone = self._tombstones.find(memory.tenant, memory.memory_id)
        if tombstone is None or memory.state is State.DELETED:
            return memory
        return memory.tombstone(tombstone.time)


def bare_memory(tenant: str, memory_id: str, tombstone: Tombstone) -> Memory:
    """A deleted memory of which nothing else is known."""
    return Memory(
        tenant=tenant,
        user=tombstone.user,
        memory_id=memory_id,
        type=MemoryType.FACT,
        text="",
        question="",
        subject_key="",
        visibility=Visibility.PRIVATE,
        create_time=tombstone.time,
        update_time=tombstone.time,
        live_end_time=tombstone.time,
        state=State.DELETED,
    )
