"""Storing memories that were exported elsewhere: names, times and states kept, in micro-batches.

1 Vectors are checked, or made where another model made them. 2 Names that exist are skipped. 3 Of a
live memory and a stored live one of its key the newer lives on. Knows no protobuf.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from memory_svc import metrics
from memory_svc.announcements import Announcements
from memory_svc.conditions import Condition
from memory_svc.core import LIVE_STATES, Memory, Vector, is_newer
from memory_svc.ports import Embedder, MemoryStore
from memory_svc.verbs import history
from memory_svc.verbs.duplicates import is_agreement
from memory_svc.verbs.supersession import SAME_KEY, Rival, Superseded, give_way
from selm.errors import SelmError

# Also how long others may have to wait for the lock.
BATCH = 128
_MAX_RIVALS = 64
# Of a unit vector after its numbers were rounded to 32 bits.
_NEARLY_ONE = 1e-4


@dataclass(frozen=True)
class Draft:
    """A memory and its place in the stream it came in."""

    index: int
    memory: Memory


@dataclass(frozen=True)
class Refusal:
    """A place in the stream and why nothing was stored for it."""

    index: int
    error: SelmError


@dataclass(frozen=True)
class Imported:
    """What became of a batch."""

    num_imported: int
    num_skipped: int
    refusals: tuple[Refusal, ...]


class Import:
    """Stores batch after batch; the same again skips what is there."""

    def __init__(
        self,
        store: MemoryStore,
        embedder: Embedder,
        announcements: Announcements,
        writing: asyncio.Lock,
        clock: Callable[[], datetime],
    ) -> None:
        """`writing` is held by whoever changes memories."""
        self._store = store
        self._embedder = embedder
        self._announcements = announcements
        self._writing = writing
        self._clock = clock

    async def store(self, drafts: Sequence[Draft], principal: str) -> Imported:
        """One batch, in order."""
        refusals = [
            Refusal(draft.index, error)
            for draft in drafts
            if (error := self._fault_of(draft.memory)) is not None
        ]
        refused = {refusal.index for refusal in refusals}
        good = await self._with_vectors([d for d in drafts if d.index not in refused])
        async with self._writing:
            fresh, taken = await self._fresh(good)
            refusals += taken
            if fresh:
                await self._put([draft.memory for draft in fresh], principal)
        num_skipped = len(drafts) - len(fresh) - len(refusals)
        return Imported(len(fresh), num_skipped, tuple(refusals))

    def _fault_of(self, memory: Memory) -> SelmError | None:
        """A vector of the present model is used as it is, so it has to be one."""
        if not memory.vector or memory.embedding_model != self._embedder.model:
            return None
        dimension, number = self._embedder.dimension, len(memory.vector)
        if number != dimension:
            return _invalid(f"{number} numbers, the model makes {dimension}")
        length = math.hypot(*memory.vector)
        if not math.isfinite(length) or length == 0:
            return _invalid("not finite, or of no length")
        return None

    async def _with_vectors(self, drafts: Sequence[Draft]) -> list[Draft]:
        embedder = self._embedder.pinned()
        model = embedder.model
        needed = [d for d in drafts if not d.memory.vector or d.memory.embedding_model != model]
        texts = [draft.memory.search_text for draft in needed]
        made = dict(
            zip([d.index for d in needed], await embedder.embed(texts), strict=True)
            if needed
            else ()
        )
        return [
            replace(
                draft,
                memory=replace(
                    draft.memory,
                    vector=made[draft.index] if draft.index in made else _unit(draft.memory.vector),
                    embedding_model=model,
                ),
            )
            for draft in drafts
        ]

    async def _fresh(self, drafts: Sequence[Draft]) -> tuple[list[Draft], list[Refusal]]:
        """Those whose names are free, and those whose id is another user's memory."""
        ids = [draft.memory.memory_id for draft in drafts]
        known = await self._store.get_all(drafts[0].memory.tenant, ids) if ids else []
        owners = {row.memory_id: row.user for row in known}
        fresh, taken = [], []
        for draft in drafts:
            memory = draft.memory
            owner = owners.setdefault(memory.memory_id, "")
            if owner == "":
                owners[memory.memory_id] = memory.user
                fresh.append(draft)
            elif owner != memory.user:
                taken.append(Refusal(draft.index, _taken(memory)))
        return fresh, taken

    async def _put(self, memories: Sequence[Memory], principal: str) -> None:
        """Stores them, each key's newest alive, and tells whose lesson gave way."""
        now = self._clock()
        live = await self._live_of(memories)
        rows: dict[str, Memory] = {}
        given_way: list[Superseded] = []
        for memory in memories:
            stored = history.created(memory, memory.author or principal)
            known = live.get(memory.supersession_key, []) if _is_live(memory) else []
            agreeing = [other for other in known if is_agreement(stored, other)]
            for rival in (other for other in known if other not in agreeing):
                winner, loser = (stored, rival) if is_newer(stored, rival) else (rival, stored)
                gone = _superseded(loser, winner, now, principal)
                given_way.append(gone)
                rows[gone.memory.memory_id] = gone.memory
                if loser is stored:
                    stored = gone.memory
                    break
            rows[stored.memory_id] = stored
            if _is_live(stored):
                live[stored.supersession_key] = [stored, *agreeing]
        # First: whoever dies in between repeats the import, which tells it again.
        await self._announcements.superseded(given_way)
        await self._store.put(list(rows.values()))
        metrics.SUPERSEDED.inc(len(given_way))

    async def _live_of(self, memories: Sequence[Memory]) -> dict[str, list[Memory]]:
        keys = list(dict.fromkeys(m.supersession_key for m in memories if _is_live(m)))
        if not keys:
            return {}
        tenant = memories[0].tenant
        found = await asyncio.gather(
            *(
                self._store.find(
                    Condition(tenant, supersession_key=key, states=LIVE_STATES), _MAX_RIVALS
                )
                for key in keys
            )
        )
        return dict(zip(keys, found, strict=True))


def _is_live(memory: Memory) -> bool:
    return memory.state in LIVE_STATES


def _superseded(loser: Memory, winner: Memory, now: datetime, principal: str) -> Superseded:
    """It was live until the winner was said, wherever that was."""
    end = max(loser.create_time, winner.create_time)
    loser = replace(loser, live_end_time=loser.live_end_time or end)
    return give_way(Rival(loser, SAME_KEY), winner, now, principal)


def _unit(vector: Vector) -> Vector:
    length = math.hypot(*vector)
    if abs(length - 1) < _NEARLY_ONE or not length:
        return vector
    return tuple(number / length for number in vector)


def _invalid(what: str) -> SelmError:
    return SelmError("EMBEDDING_INVALID", f"vector: {what}")


def _taken(memory: Memory) -> SelmError:
    return SelmError(
        "RESOURCE_EXISTS",
        "another user has a memory of this id",
        metadata={"resource_name": memory.name},
        resource=memory.name,
    )
