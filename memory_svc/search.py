"""Recall: from a query to hits, each with the gate's decision; and why there are none.

1 An equal question is looked up by its hash: no vector search can miss it, nothing can be closer,
and no model runs. 2 Without one, the query is embedded and its neighbours are fetched. 3 The gate
decides on each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from memory_svc import gate
from memory_svc.core import (
    Condition,
    Embedder,
    GateThresholds,
    MemoryStore,
    Neighbour,
    question_key,
)
from memory_svc.forms import compare_forms
from memory_svc.gate import Hit
from selm import questions

# Candidates beyond what was asked for: those in scope may be less similar than others.
_MIN_CANDIDATES = 24
_MAX_SAME = 100


class EmptyReason(IntEnum):
    """Why a search found nothing; the numbers are those of the contract."""

    HAS_HITS = 0
    NOTHING_STORED = 1
    FILTERED_OUT = 2
    BELOW_THRESHOLD = 3


@dataclass(frozen=True)
class Query:
    """What is looked for; `visible` is all that may be recalled, `condition` what is wanted."""

    text: str
    visible: Condition
    condition: Condition
    max_results: int
    min_score: float = 0.0


@dataclass(frozen=True)
class Found:
    """Hits, best first, or the reason why there are none."""

    hits: Sequence[Hit]
    empty_reason: EmptyReason = EmptyReason.HAS_HITS


class Search:
    """Finds memories and asks the gate about each."""

    def __init__(self, store: MemoryStore, embedder: Embedder, thresholds: GateThresholds) -> None:
        self._store = store
        self._embedder = embedder
        self._thresholds = thresholds

    async def find(self, query: Query) -> Found:
        """At most `max_results` hits."""
        found = await self._same(query) or await self._similar(query)
        if not found:
            return Found((), await self._why_nothing(query))
        hits = await self._judge(query, found)
        good = [hit for hit in hits if hit.score >= query.min_score]
        if not good:
            return Found((), EmptyReason.BELOW_THRESHOLD)
        return Found(good[: query.max_results])

    async def _same(self, query: Query) -> list[Neighbour]:
        same = replace(query.condition, question_key=question_key(query.text))
        return [Neighbour(memory, 1.0) for memory in await self._store.find(same, _MAX_SAME)]

    async def _similar(self, query: Query) -> list[Neighbour]:
        (vector,) = await self._embedder.embed([query.text])
        comparable = replace(query.condition, embedding_model=self._embedder.model)
        limit = max(_MIN_CANDIDATES, 2 * query.max_results)
        return await self._store.nearest(comparable, vector, limit)

    async def _judge(self, query: Query, found: Sequence[Neighbour]) -> list[Hit]:
        needed = self._thresholds
        hits = [gate.first_look(query.text, n.memory, n.cosine, needed) for n in found]
        hits = [
            await self._compare_forms(query.text, hit) if gate.needs_form(hit, needed) else hit
            for hit in hits
        ]
        return gate.settle(hits, query.condition.user or "", needed)

    async def _compare_forms(self, text: str, hit: Hit) -> Hit:
        question = hit.memory.question
        entities = questions.entity_words(question)
        similarity = await compare_forms(self._embedder, text, question, entities)
        return gate.second_look(text, hit, similarity, self._thresholds)

    async def _why_nothing(self, query: Query) -> EmptyReason:
        visible = await self._store.find(query.visible, 1)
        return EmptyReason.FILTERED_OUT if visible else EmptyReason.NOTHING_STORED
