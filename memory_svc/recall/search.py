"""Recall: from a query to hits, each with the gate's decision; and why there are none.

1 An equal question is looked up by its hash: no search can miss it, nothing can be closer, and no
model runs. 2 Without one, the nearest by vector and the best by words are fetched at the same time.
3 The gate decides on each by cosine and form. 4 Only then both ranks are fused and weighed with
recency and importance: what is in scope first, then by score.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum

from memory_svc.conditions import Condition
from memory_svc.core import (
    LIVE_STATES,
    GateThresholds,
    Memory,
    MemoryType,
    Vector,
    question_key,
)
from memory_svc.ports import Embedder, Match, MemoryStore, Neighbour
from memory_svc.recall import gate, ranking
from memory_svc.recall.forms import compare, cosine
from memory_svc.recall.gate import Hit
from memory_svc.recall.ranking import Scores
from memory_svc.verbs import history
from memory_svc.verbs.duplicates import is_same_answer
from selm import questions

# Candidates of each kind beyond what was asked for: those in scope may be less similar than others.
_MIN_CANDIDATES = 24
_MAX_SAME = 100


class EmptyReason(IntEnum):
    """Why nothing was found, or applies; the numbers are those of the contract."""

    HAS_HITS = 0
    NOTHING_STORED = 1
    FILTERED_OUT = 2
    BELOW_THRESHOLD = 3
    OUT_OF_SCOPE = 4


@dataclass(frozen=True)
class Query:
    """What is looked for: `stored` is all that its owner sees, `condition` what may be found."""

    text: str
    stored: Condition
    condition: Condition
    # Of the question, not of the clock: recency is told as of then.
    time: datetime
    max_results: int
    min_score: float = 0.0

    def seen_at(self, now: datetime) -> "Query":
        """The same after a wait: what ran out meanwhile is over, unless a past time is asked."""
        if self.condition.at is None:
            return self
        return replace(self, time=now, condition=replace(self.condition, at=now, valid_at=now))


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
        hits = await self._same(query) or await self._similar(query)
        if not hits:
            return Found((), await self._why_nothing(query))
        good = [hit for hit in hits if hit.score >= query.min_score]
        if not good:
            return Found((), EmptyReason.BELOW_THRESHOLD)
        told = _once([_as_of(query, hit) for hit in good])
        return Found(_first(told, query.max_results))

    async def _same(self, query: Query) -> list[Hit]:
        """Hits whose question is the query; their score is 1, no signal ran."""
        same = replace(query.condition, question_key=question_key(query.text))
        found = await self._store.find(same, _MAX_SAME)
        same_ones = [Neighbour(memory, 1.0) for memory in found]
        return await self._judge(query, same_ones, self._embedder, ())

    async def _similar(self, query: Query) -> list[Hit]:
        embedder = self._embedder.pinned()
        (vector,) = await embedder.embed([query.text])
        near, matches = await self._candidates(query, vector, embedder.model)
        judged = await self._judge(query, near, embedder, vector)
        return _ranked(judged, _signals(near, matches, query.time))

    async def _candidates(
        self, query: Query, vector: Vector, model: str
    ) -> tuple[list[Neighbour], list[Match]]:
        """All candidates with cosines, nearest first; and those found by words, best first."""
        comparable = replace(query.condition, embedding_model=model)
        limit = max(_MIN_CANDIDATES, 2 * query.max_results)
        near, matches = await asyncio.gather(
            self._store.nearest(comparable, vector, limit),
            self._matching(comparable, query.text, limit),
        )
        known = {neighbour.memory.memory_id for neighbour in near}
        by_words_alone = [
            Neighbour(match.memory, cosine(vector, match.memory.vector))
            for match in matches
            if match.memory.memory_id not in known
        ]
        found = sorted([*near, *by_words_alone], key=lambda n: n.cosine, reverse=True)
        return found, matches

    async def _matching(self, condition: Condition, text: str, limit: int) -> list[Match]:
        # Without what merely asks: texts that share "what" and "the" are alike in nothing.
        wanted = " ".join(questions.content_words(text))
        return await self._store.matching(condition, wanted, limit) if wanted else []

    async def _judge(
        self, query: Query, found: Sequence[Neighbour], embedder: Embedder, vector: Vector
    ) -> list[Hit]:
        needed = self._thresholds
        # Of what the sweep emptied nothing is left to tell, whenever it was live.
        said = [n for n in found if n.memory.text]
        hits = [gate.first_look(query.text, n.memory, n.cosine, needed) for n in said]
        # At once: the embedder puts the texts of all into one batch.
        hits = await asyncio.gather(
            *(self._second_look(query.text, hit, embedder, vector) for hit in hits)
        )
        return gate.settle(hits, query.condition.user or "", needed)

    async def _second_look(self, text: str, hit: Hit, embedder: Embedder, vector: Vector) -> Hit:
        if not gate.needs_second_look(hit):
            return hit
        known = {text: vector, hit.memory.question: hit.memory.vector}
        likenesses = await compare(embedder, text, hit.memory.question, known)
        return gate.second_look(hit, likenesses, self._thresholds)

    async def _why_nothing(self, query: Query) -> EmptyReason:
        stored = await self._store.find(query.stored, 1)
        return EmptyReason.FILTERED_OUT if stored else EmptyReason.NOTHING_STORED


def _signals(
    near: Sequence[Neighbour], matches: Sequence[Match], time: datetime
) -> Mapping[str, Scores]:
    """Every signal of every candidate, by memory id."""
    by_words = {match.memory.memory_id: match.bm25 for match in matches}
    # NOTE: the order of `near` holds the cosine of those found by words alone, too.
    fused = ranking.fuse([[n.memory.memory_id for n in near], list(by_words)])
    return {
        n.memory.memory_id: Scores(
            dense=n.cosine,
            sparse=by_words.get(n.memory.memory_id),
            fused=fused[n.memory.memory_id],
            recency=ranking.recency(n.memory, time),
            importance=n.memory.importance,
        )
        for n in near
    }


def _ranked(hits: Sequence[Hit], signals: Mapping[str, Scores]) -> list[Hit]:
    """Corrections likely to apply as the gate ranked them, since age and importance say nothing of
    which applies more; then the rest, in scope first, by score."""
    scored = [_scored(hit, signals[hit.memory.memory_id]) for hit in hits]
    likely = [hit for hit in scored if hit.is_likely]
    rest = [hit for hit in scored if not hit.is_likely]
    return likely + sorted(rest, key=lambda hit: (not hit.is_in_scope, -round(hit.score, 4)))


def _as_of(query: Query, hit: Hit) -> Hit:
    """Found by what it says now, told as it was then."""
    return replace(hit, memory=history.told_at(hit.memory, query.condition.as_of))


def _once(hits: Sequence[Hit]) -> list[Hit]:
    """What several authors taught alike is found once, as the best of them."""
    kept: list[Hit] = []
    for hit in hits:
        if not any(_says_the_same(hit.memory, other.memory) for other in kept):
            kept.append(hit)
    return kept


def _says_the_same(one: Memory, other: Memory) -> bool:
    return (
        one.subject_key == other.subject_key
        and one.type is other.type is MemoryType.CORRECTION
        and one.state in LIVE_STATES
        and other.state in LIVE_STATES
        and is_same_answer(one.text, other.text)
    )


def _first(hits: Sequence[Hit], number: int) -> list[Hit]:
    """So many; the best correction in scope is one of them, since it scopes the adapter."""
    first = list(hits[:number])
    best = next((hit for hit in hits if hit.is_correction and hit.is_in_scope), None)
    return first if best is None or best in first else [*first[:-1], best]


def _scored(hit: Hit, scores: Scores) -> Hit:
    return replace(hit, score=ranking.score(scores), scores=scores)
