"""Storing new memories, one or a batch of one owner: all are decided in order, then put at once."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from memory_svc.conditions import Condition
from memory_svc.core import ChangeKind, GateThresholds, Memory, State, owner_of, with_keys
from memory_svc.ports import Embedder, MemoryStore
from memory_svc.verbs import history
from memory_svc.verbs.rivals import MAX_OF_A_KEY, Known, Rivals
from memory_svc.verbs.supersession import (
    SAME_ANSWER,
    SAME_KEY,
    Outcome,
    Rival,
    Superseded,
    before_fold,
    decide,
    mark_of,
    told_as,
)
from selm.errors import SelmError


class Remembering:
    """Takes drafts to outcomes. Whoever calls `store` holds the lock of writers."""

    def __init__(
        self,
        store: MemoryStore,
        embedder: Embedder,
        thresholds: GateThresholds,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._rivals = Rivals(store, embedder, thresholds)
        self._clock = clock

    async def prepare(self, drafts: Sequence[Memory]) -> list[Memory]:
        """The drafts with keys and vectors; the model runs once for all of them."""
        keyed = [with_keys(draft) for draft in drafts]
        embedder = self._embedder.pinned()
        vectors = await embedder.embed([draft.search_text for draft in keyed])
        return [
            replace(draft, vector=vector, embedding_model=embedder.model)
            for draft, vector in zip(keyed, vectors, strict=True)
        ]

    async def store(self, drafts: Sequence[Memory]) -> list[Outcome]:
        """What became of each prepared draft; drafts that were stored before change nothing."""
        first = drafts[0]
        known, stored = await asyncio.gather(self._rivals.known_to(drafts), self._stored(first))
        if stored is not None or _is_folded(first, known):
            return [await self._repeat(draft, known) for draft in drafts]
        outcomes = []
        writes: dict[str, Memory] = {}
        for draft in drafts:
            outcome = decide(draft, await self._rivals.of(draft, known), self._clock())
            known.add(outcome.writes)
            writes.update({memory.memory_id: memory for memory in outcome.writes})
            outcomes.append(outcome)
        if writes:
            await self._store.put(list(writes.values()))
        # A later one of the batch may have changed what an earlier one left.
        return [replace(o, memory=writes.get(o.memory.memory_id, o.memory)) for o in outcomes]

    async def rivals_of(self, memory: Memory) -> list[Rival]:
        """What a memory meets where its keys are now, emptied ones too."""
        return await self._rivals.of(memory, await self._rivals.known_to([memory]))

    async def losers_to(self, memory: Memory) -> list[Rival]:
        """The live memories that a memory takes the place of where its keys are now."""
        rivals = await self.rivals_of(memory)
        return [rival for rival in rivals if rival.is_live and rival.can_give_way]

    async def _stored(self, draft: Memory) -> Memory | None:
        """Its own row; a new id cannot have one, and is not looked for."""
        if not (draft.request_id or draft.feedback_event):
            return None
        return await self._store.get(draft.tenant, draft.memory_id)

    async def _repeat(self, draft: Memory, known: Known) -> Outcome:
        """The draft was said before: say again what came of it."""
        stored = await self._stored(draft)
        if stored is not None:
            return await self._again(draft, stored)
        mark = mark_of(draft)
        for memory in known.all():
            if history.knows(memory, mark, draft.request_id):
                return Outcome(memory, (), before_fold(memory), is_duplicate=True)
        # What it was folded into has left this key since; it is not stored a second time.
        return Outcome(draft.tombstone(draft.update_time))

    async def _again(self, draft: Memory, stored: Memory) -> Outcome:
        if draft.request_id:
            _refuse_other_content(draft, stored)
        if stored.state is State.DELETED:
            return Outcome(stored)
        if stored.state is State.SUPERSEDED:
            return Outcome(stored, (), (Superseded(stored, await self._by(stored), SAME_KEY),))
        if draft.lesson and stored.lesson != draft.lesson:
            return Outcome(stored, (), (Superseded(draft, told_as(stored), SAME_ANSWER),))
        replaced = Condition(draft.tenant, user=draft.user, superseded_by=stored.name)
        given_way = await self._store.find(replaced, MAX_OF_A_KEY)
        told = tuple(Superseded(memory, told_as(stored), SAME_KEY) for memory in given_way)
        return Outcome(stored, (), told)

    async def _by(self, memory: Memory) -> str:
        """What took a superseded memory's place."""
        _, memory_id = owner_of(memory.superseded_by)
        successor = await self._store.get(memory.tenant, memory_id)
        return told_as(successor) if successor else memory.superseded_by


def _is_folded(draft: Memory, known: Known) -> bool:
    mark = mark_of(draft)
    return any(history.knows(memory, mark, draft.request_id) for memory in known.all())


def _refuse_other_content(draft: Memory, stored: Memory) -> None:
    said = (draft.question, draft.type)
    is_edited = any(change.kind is ChangeKind.UPDATED for change in stored.changes)
    is_same_text = is_edited or draft.text == stored.text
    is_same = is_same_text and said == (stored.question, stored.type)
    # Of what was deleted or swept the content is gone.
    if stored.state not in (State.DELETED, State.EXPIRED) and not is_same:
        raise SelmError(
            "REQUEST_ID_REUSED",
            "this request_id was used before with another memory",
            metadata={"request_id": draft.request_id},
        )
