"""What a new memory competes with: live ones of its key, and those that mean the same.

Reads the store before the first draft of a batch is decided. Decides nothing; see `supersession`.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from memory_svc.conditions import Condition
from memory_svc.core import (
    EMPTIED_STATES,
    LIVE_STATES,
    GateThresholds,
    Memory,
    MemoryType,
)
from memory_svc.ports import Embedder, MemoryStore
from memory_svc.recall.forms import compare_forms, cosine
from memory_svc.verbs.duplicates import is_agreement, is_same_answer, is_same_statement
from memory_svc.verbs.supersession import SAME_KEY, SAME_MEANING, SAME_STATEMENT, Rival
from selm import questions

# More live memories of one key than these cannot be: each new one supersedes all it meets, but for
# a few that say the same. There can be more tombstones of it, and more live ones of the same entity
# words.
MAX_OF_A_KEY = 64
# Authors of one answer who each keep a memory of it; of a key fewer than are read at once.
_MAX_AGREEING = 16
# Side by side.
_MAX_READS = 16


class Known:
    """The memories that drafts of one owner may meet, and those stored meanwhile."""

    def __init__(self, memories: Iterable[Memory]) -> None:
        self._memories = {memory.memory_id: memory for memory in memories}

    def add(self, memories: Iterable[Memory]) -> None:
        self._memories.update({memory.memory_id: memory for memory in memories})

    def all(self) -> list[Memory]:
        return list(self._memories.values())


class Rivals:
    """Finds rivals of drafts."""

    def __init__(self, store: MemoryStore, embedder: Embedder, thresholds: GateThresholds) -> None:
        self._store = store
        self._embedder = embedder
        self._thresholds = thresholds

    async def known_to(self, drafts: Sequence[Memory]) -> Known:
        """All that these drafts may meet; the reads of one draft go side by side."""
        conditions = list(dict.fromkeys(c for draft in drafts for c in _conditions(draft)))
        found: dict[Condition, list[Memory]] = {}
        for start in range(0, len(conditions), _MAX_READS):
            some = conditions[start : start + _MAX_READS]
            answers = await asyncio.gather(*(self._store.find(c, MAX_OF_A_KEY) for c in some))
            found |= zip(some, answers, strict=True)
        full = [c for c in conditions if len(found[c]) >= MAX_OF_A_KEY]
        more = [await self._of_many(c, drafts) for c in full]
        # What was found first has its history, which those of a page have not.
        return Known(memory for some in (*more, *found.values()) for memory in some)

    async def of(self, draft: Memory, known: Known) -> list[Rival]:
        """Memories of the same key, emptied ones too; then live ones that mean the same. Authors
        who agree are no rivals."""
        others = [memory for memory in known.all() if memory.memory_id != draft.memory_id]
        agreeing = [memory for memory in others if is_agreement(draft, memory)]
        agreeing.sort(key=lambda memory: memory.sequence, reverse=True)
        for memory in agreeing[:_MAX_AGREEING]:
            others.remove(memory)
        rivals = [
            Rival(memory, SAME_KEY)
            for memory in others
            if memory.supersession_key == draft.supersession_key
            and memory.state in (*LIVE_STATES, *EMPTIED_STATES)
        ]
        for memory in others:
            if memory.supersession_key != draft.supersession_key and _is_near(draft, memory):
                reason = await self._meaning(draft, memory)
                if reason:
                    rivals.append(Rival(memory, reason))
        return rivals

    async def _of_many(self, condition: Condition, drafts: Sequence[Memory]) -> list[Memory]:
        """Where more fit than were read: those of them that can matter."""
        if condition.supersession_key:
            live = replace(condition, states=LIVE_STATES)
            emptied = replace(condition, states=EMPTIED_STATES)
            newest = await self._store.newest(emptied, MAX_OF_A_KEY, None)
            return [*await self._store.find(live, MAX_OF_A_KEY), *newest]
        near: list[Memory] = []
        for draft in drafts:
            if condition in _conditions(draft):
                # The owner is part of the key; told once more, the local index may answer.
                own = replace(condition, user=draft.user)
                found = await self._store.nearest(own, draft.vector, MAX_OF_A_KEY)
                near += [neighbour.memory for neighbour in found]
        return near

    async def _meaning(self, draft: Memory, memory: Memory) -> str:
        """Why a memory of the same entity words is a rival; empty if it is none."""
        if not draft.question or not memory.question:
            is_same = not draft.question and not memory.question and self._repeats(draft, memory)
            return SAME_STATEMENT if is_same else ""
        is_correction = draft.type is MemoryType.CORRECTION
        if not is_correction and not is_same_answer(draft.text, memory.text):
            return ""
        if not await self._asks_the_same(draft, memory):
            return ""
        return SAME_MEANING if is_correction else SAME_STATEMENT

    def _repeats(self, draft: Memory, memory: Memory) -> bool:
        return (
            is_same_statement(draft.text, memory.text)
            and cosine(draft.vector, memory.vector) >= self._thresholds.near_duplicate
        )

    async def _asks_the_same(self, draft: Memory, memory: Memory) -> bool:
        if cosine(draft.vector, memory.vector) < self._thresholds.supersede:
            return False
        if not questions.may_ask_the_same(draft.question, memory.question):
            return False
        entities = questions.entity_words(memory.question)
        similarity = await compare_forms(self._embedder, draft.question, memory.question, entities)
        return similarity >= self._thresholds.supersede_form


def _is_near(draft: Memory, memory: Memory) -> bool:
    return (
        bool(draft.entity_key)
        and memory.entity_key == draft.entity_key
        and memory.type is draft.type
        and memory.state in LIVE_STATES
        and memory.embedding_model == draft.embedding_model
    )


def _conditions(draft: Memory) -> Iterator[Condition]:
    """Those of the same key first."""
    states = (*LIVE_STATES, *EMPTIED_STATES)
    yield Condition(draft.tenant, supersession_key=draft.supersession_key, states=states)
    if draft.entity_key:
        yield Condition(
            draft.tenant,
            entity_key=draft.entity_key,
            types=(draft.type,),
            states=LIVE_STATES,
            embedding_model=draft.embedding_model,
        )
