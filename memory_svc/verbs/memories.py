"""The verbs that change memories: remember, update, delete, retire, revive; and the readers.

Knows the ports of core, no store, no bus and no protobuf. Writes go one at a time within a process,
since supersession reads before it writes.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from memory_svc import metrics
from memory_svc.conditions import Condition
from memory_svc.core import (
    LIVE_STATES,
    ChangeKind,
    GateThresholds,
    Memory,
    State,
    Vector,
    memory_id_of,
)
from memory_svc.ports import Embedder, MemoryStore, TombstoneLog
from memory_svc.verbs import edits, history, sharing
from memory_svc.verbs.remembering import Remembering
from memory_svc.verbs.supersession import Outcome, give_way
from selm.errors import not_found
from selm.testing import failpoint


@dataclass(frozen=True)
class LessonNews:
    """What the bus says of a lesson: proven in a revision, or taken back out of the weights."""

    tenant: str
    lesson: str
    feedback_event: str
    revision: str
    # Place in stream LESSONS.
    sequence: int


class Memories:
    """All memories of all tenants, behind the rules of supersession."""

    def __init__(
        self,
        store: MemoryStore,
        embedder: Embedder,
        thresholds: GateThresholds,
        clock: Callable[[], datetime],
        tombstones: TombstoneLog,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._remembering = Remembering(store, embedder, thresholds, clock)
        self._clock = clock
        self._tombstones = tombstones
        # Held by whoever changes memories, of this class or beside it.
        self.writing = asyncio.Lock()

    async def remember(self, draft: Memory) -> Outcome:
        """Stores a new memory; the same draft again changes nothing and answers the same."""
        (outcome,) = await self.remember_all([draft])
        return outcome

    async def remember_all(self, drafts: Sequence[Memory]) -> list[Outcome]:
        """Stores drafts of one owner in their order; readers see all of them or none."""
        prepared = await self._remembering.prepare(drafts)
        async with self.writing:
            outcomes = await self._remembering.store(prepared)
        changing = [outcome for outcome in outcomes if outcome.writes]
        metrics.DUPLICATES.inc(sum(outcome.is_duplicate for outcome in changing))
        metrics.SUPERSEDED.inc(sum(len(outcome.writes) - 1 for outcome in changing))
        failpoint("memory.after_remember")
        return outcomes

    async def update(self, edit: edits.Edit) -> Outcome:
        """Changes a memory in place; where it moves to another key, what lives there gives way."""
        embedder = self._embedder.pinned()
        vector = await self._new_vector(edit, embedder)
        async with self.writing:
            memory = await self.get(edit.tenant, edit.user, edit.memory_id)
            if history.knows(memory, edit.mark, edit.request_id):
                return Outcome(memory, (), edits.lesson_left(memory))
            now = self._clock()
            edits.check(edit, memory, now)
            edited = edits.edited(edit, memory)
            if edited is memory:
                # Perhaps a repeat without an id, after the bus did not take what is told of it.
                return Outcome(memory, (), edits.lesson_left(memory))
            if vector:
                edited = replace(edited, vector=vector, embedding_model=embedder.model)
            outcome = await self._moved(edit, memory, edited, now)
            await self._store.put(outcome.writes)
            return outcome

    async def follow_reach(self, draft: Memory, num_decisions: int) -> Outcome | None:
        """Its event was decided on: the memory that carries its lesson goes where the draft now
        belongs. None if nothing changes."""
        carrying = Condition(draft.tenant, lesson=draft.lesson, states=LIVE_STATES)
        async with self.writing:
            for memory in await self._store.find(carrying, 1):
                there = sharing.moved(memory, draft)
                if there is memory or sharing.is_known(memory, draft, num_decisions):
                    return None
                rivals = await self._remembering.rivals_of(there)
                outcome = sharing.settle(memory, there, rivals, draft, num_decisions, self._clock())
                if outcome.writes:
                    await self._store.put(outcome.writes)
                return outcome
        return None

    async def get(self, tenant: str, user: str, memory_id: str) -> Memory:
        """A memory in any state but DELETED."""
        memory = await self._owned(tenant, user, memory_id)
        if memory.state is State.DELETED:
            raise not_found(memory.name)
        return memory

    async def list_newest(
        self, condition: Condition, limit: int, before: tuple[datetime, str] | None
    ) -> list[Memory]:
        """Newest first, those after the given place; of a past time with what they said then."""
        found = await self._store.newest(condition, limit, before)
        return [history.told_at(memory, condition.as_of) for memory in found]

    async def list_history(self, tenant: str, user: str, memory_id: str) -> list[history.Entry]:
        """Every change, oldest first; also of a deleted one, without text."""
        return history.entries(await self._owned(tenant, user, memory_id))

    async def delete(self, tenant: str, user: str, memory_id: str, principal: str) -> Memory:
        """Leaves a tombstone and returns it; deleting again is fine."""
        async with self.writing:
            memory = await self._owned(tenant, user, memory_id)
            (tombstone,) = await self._bury([memory], principal)
            return tombstone

    async def delete_all(self, memories: Sequence[Memory], principal: str) -> list[Memory]:
        """Leaves tombstones for memories just found, as they are now."""
        async with self.writing:
            ids = [memory.memory_id for memory in memories]
            found = await self._store.get_all(memories[0].tenant, ids) if ids else []
            return await self._bury(found, principal)

    async def retire(self, news: LessonNews) -> Memory | None:
        """Its lesson is proven in the weights: it only drives the gate. None if it is old news."""
        async with self.writing:
            memory = await self._of_lesson(news)
            if memory is None or memory.lesson_sequence > news.sequence:
                return None
            if memory.lesson_sequence == news.sequence:
                return memory
            retired = replace(
                memory,
                state=State.RETIRED,
                retired_by_revision=news.revision,
                lesson_sequence=news.sequence,
            )
            return await self._put_changed(memory, retired, ChangeKind.RETIRED)

    async def revive(self, news: LessonNews) -> Memory | None:
        """Its lesson left the weights: it is recalled again. None if it is old news."""
        async with self.writing:
            memory = await self._of_lesson(news)
            if memory is None or memory.lesson_sequence >= news.sequence:
                return None
            revived = replace(
                memory,
                state=State.ACTIVE,
                retired_by_revision="",
                lesson_sequence=news.sequence,
            )
            return await self._put_changed(memory, revived, ChangeKind.REVIVED)

    async def _new_vector(self, edit: edits.Edit, embedder: Embedder) -> Vector:
        """Of the new text, if the memory is found by its text; the model runs outside the lock."""
        memory = await self.get(edit.tenant, edit.user, edit.memory_id)
        if not edits.needs_vector(edit, memory):
            return ()
        (vector,) = await embedder.embed([edit.fields["text"]])
        return vector

    async def _moved(
        self, edit: edits.Edit, memory: Memory, edited: Memory, now: datetime
    ) -> Outcome:
        has_moved = edited.supersession_key != memory.supersession_key
        losers = await self._remembering.losers_to(edited) if has_moved else []
        marks = [mark for rival in losers for mark in history.requests_of(rival.memory)]
        if edit.mark:
            marks.append(edit.mark)
        stored = history.changed(memory, edited, ChangeKind.UPDATED, now, edit.principal, marks)
        given_way = [give_way(rival, stored, now, edit.principal) for rival in losers]
        left = edits.lesson_left(stored) if memory.lesson else ()
        return Outcome(stored, (stored, *(item.memory for item in given_way)), (*left, *given_way))

    async def _bury(self, memories: Sequence[Memory], principal: str) -> list[Memory]:
        """First where deletes outlive the store, so that none of them comes back with a backup."""
        left = [memory for memory in memories if memory.state is not State.DELETED]
        await asyncio.gather(*(self._tombstones.record(memory, principal) for memory in left))
        now = self._clock()
        tombstones = [
            memory
            if memory.state is State.DELETED
            else history.changed(memory, memory.tombstone(now), ChangeKind.DELETED, now, principal)
            for memory in memories
        ]
        failpoint("memory.after_tombstone")
        changed = [new for new, old in zip(tombstones, memories, strict=True) if new is not old]
        if changed:
            await self._store.put(changed)
        return tombstones

    async def _put_changed(self, before: Memory, after: Memory, kind: ChangeKind) -> Memory:
        changed = history.changed(before, after, kind, self._clock(), history.SERVICE)
        await self._store.put([changed])
        return changed

    async def _owned(self, tenant: str, user: str, memory_id: str) -> Memory:
        memory = await self._store.get(tenant, memory_id)
        if memory is None or memory.user != user:
            raise not_found(f"{user}/memories/{memory_id}")
        return memory

    async def _of_lesson(self, news: LessonNews) -> Memory | None:
        """The live memory that carries a lesson; raises if none was ever stored for it: it is not
        yet remembered, or it was folded into another and superseded there."""
        carrying = Condition(news.tenant, lesson=news.lesson, states=LIVE_STATES)
        found = await self._store.find(carrying, 1)
        if found:
            return found[0]
        stored_as = memory_id_of(news.tenant, news.feedback_event)
        if await self._store.get(news.tenant, stored_as) is None:
            raise not_found(f"memory of {news.lesson}")
        # It gave way to a newer lesson, or was deleted: nothing to retire or revive.
        return None
