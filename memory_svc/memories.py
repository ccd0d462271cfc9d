"""The verbs that change memories: remember, delete, retire, revive; and get and list.

Knows the ports of core, no store, no bus and no protobuf. Writes go one at a time within a process,
since supersession reads before it writes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from memory_svc.core import (
    LIVE_STATES,
    Condition,
    Embedder,
    GateThresholds,
    Memory,
    MemoryStore,
    MemoryType,
    State,
    memory_id_of,
    owner_of,
    with_keys,
)
from memory_svc.forms import compare_forms, cosine
from memory_svc.supersession import (
    SAME_ANSWER,
    SAME_KEY,
    SAME_MEANING,
    Outcome,
    Rival,
    Superseded,
    decide,
    told_as,
)
from selm import questions
from selm.errors import SelmError, not_found
from selm.testing import failpoint

# More live memories of one key than these cannot be: each new one supersedes all it meets.
_MAX_RIVALS = 64


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
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._thresholds = thresholds
        self._clock = clock
        self._writing = asyncio.Lock()

    async def remember(self, draft: Memory) -> Outcome:
        """Stores a new memory; the same draft again changes nothing and answers the same."""
        draft = with_keys(draft)
        known = await self._store.get(draft.tenant, draft.memory_id)
        if known is not None:
            return await self._repeat(draft, known)
        (vector,) = await self._embedder.embed([draft.search_text])
        draft = replace(draft, vector=vector, embedding_model=self._embedder.model)
        async with self._writing:
            outcome = decide(draft, await self._rivals(draft), self._clock())
            if outcome.writes:
                await self._store.put(outcome.writes)
        failpoint("memory.after_remember")
        return outcome

    async def get(self, tenant: str, user: str, memory_id: str) -> Memory:
        """A memory in any state but DELETED."""
        memory = await self._owned(tenant, user, memory_id)
        if memory.state is State.DELETED:
            raise not_found(memory.name)
        return memory

    async def list_newest(
        self, condition: Condition, limit: int, before: tuple[datetime, str] | None
    ) -> list[Memory]:
        """Newest first, those after the given place."""
        return await self._store.newest(condition, limit, before)

    async def delete(self, tenant: str, user: str, memory_id: str) -> Memory:
        """Leaves a tombstone and returns it; deleting again is fine."""
        async with self._writing:
            memory = await self._owned(tenant, user, memory_id)
            if memory.state is State.DELETED:
                return memory
            tombstone = memory.tombstone(self._clock())
            await self._store.put([tombstone])
            return tombstone

    async def retire(self, news: LessonNews) -> Memory | None:
        """Its lesson is proven in the weights: it only drives the gate. None if it is old news."""
        async with self._writing:
            memory = await self._of_lesson(news)
            if memory is None or memory.lesson_sequence > news.sequence:
                return None
            retired = replace(
                memory,
                state=State.RETIRED,
                retired_by_revision=news.revision,
                lesson_sequence=news.sequence,
                update_time=self._clock(),
            )
            if memory.lesson_sequence < news.sequence:
                await self._store.put([retired])
            return retired

    async def revive(self, news: LessonNews) -> Memory | None:
        """Its lesson left the weights: it is recalled again. None if it is old news."""
        async with self._writing:
            memory = await self._of_lesson(news)
            if memory is None or memory.lesson_sequence >= news.sequence:
                return None
            revived = replace(
                memory,
                state=State.ACTIVE,
                retired_by_revision="",
                lesson_sequence=news.sequence,
                update_time=self._clock(),
            )
            await self._store.put([revived])
            return revived

    async def _owned(self, tenant: str, user: str, memory_id: str) -> Memory:
        memory = await self._store.get(tenant, memory_id)
        if memory is None or memory.user != user:
            raise not_found(f"{user}/memories/{memory_id}")
        return memory

    async def _rivals(self, draft: Memory) -> list[Rival]:
        """Memories of the same key, tombstones too; then live ones that mean the same."""
        states = (*LIVE_STATES, State.DELETED)
        same_key = Condition(draft.tenant, supersession_key=draft.supersession_key, states=states)
        rivals = {
            memory.memory_id: Rival(memory, SAME_KEY)
            for memory in await self._store.find(same_key, _MAX_RIVALS)
        }
        for memory in await self._same_meaning(draft):
            rivals.setdefault(memory.memory_id, Rival(memory, SAME_MEANING))
        return list(rivals.values())

    async def _same_meaning(self, draft: Memory) -> list[Memory]:
        if draft.type is not MemoryType.CORRECTION or not draft.entity_key:
            return []
        same_entity = Condition(
            draft.tenant,
            entity_key=draft.entity_key,
            types=(MemoryType.CORRECTION,),
            states=LIVE_STATES,
            embedding_model=draft.embedding_model,
        )
        near = [
            memory
            for memory in await self._store.find(same_entity, _MAX_RIVALS)
            if cosine(draft.vector, memory.vector) >= self._thresholds.supersede
            and questions.may_ask_the_same(draft.question, memory.question)
        ]
        return [memory for memory in near if await self._has_same_form(draft, memory)]

    async def _has_same_form(self, draft: Memory, memory: Memory) -> bool:
        entities = questions.entity_words(memory.question)
        similarity = await compare_forms(self._embedder, draft.question, memory.question, entities)
        return similarity >= self._thresholds.supersede_form

    async def _repeat(self, draft: Memory, known: Memory) -> Outcome:
        """The draft was stored before: say again what came of it."""
        if draft.request_id:
            _refuse_other_content(draft, known)
        if known.state is State.DELETED:
            return Outcome(known)
        if known.state is State.SUPERSEDED:
            return Outcome(known, (), (Superseded(known, await self._by(known), SAME_KEY),))
        if known.lesson != draft.lesson:
            return Outcome(known, (), (Superseded(draft, told_as(known), SAME_ANSWER),))
        replaced = Condition(draft.tenant, user=draft.user, superseded_by=known.name)
        given_way = await self._store.find(replaced, _MAX_RIVALS)
        told = tuple(Superseded(memory, told_as(known), SAME_KEY) for memory in given_way)
        return Outcome(known, (), told)

    async def _by(self, memory: Memory) -> str:
        """What took a superseded memory's place."""
        _, memory_id = owner_of(memory.superseded_by)
        successor = await self._store.get(memory.tenant, memory_id)
        return told_as(successor) if successor else memory.superseded_by

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


def _refuse_other_content(draft: Memory, known: Memory) -> None:
    said = (draft.text, draft.question, draft.type)
    if known.state is not State.DELETED and said != (known.text, known.question, known.type):
        raise SelmError(
            "REQUEST_ID_REUSED",
            "this request_id was used before with another memory",
            metadata={"request_id": draft.request_id},
        )
