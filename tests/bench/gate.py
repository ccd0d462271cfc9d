"""The scope gate on real corrections: `python -m tests.bench.gate --data FILE [--pool FILE]`.

All corrections of FILE (its form: see gate_data) lie in one memory, as MemoryService would store
them; every question is embedded, its nearest are fetched, and the gate decides, with the packaged
embedder and no store between. Printed, one JSON object a line: retrieval, then the rates at a dozen
thresholds, then at the chosen ones for each source. A paraphrase counts if the best hit is in scope
and is its own correction; a question that nothing answers counts as false if any hit is in scope.
--plot writes the curve as SVG.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from memory_svc.core import GateThresholds, Memory, MemoryType, Visibility, with_keys
from memory_svc.recall import gate
from memory_svc.recall.forms import compare
from memory_svc.recall.gate import Hit, Verdict
from tests.bench.gate_data import Row, load_pool, load_rows, near_questions, other_questions
from tests.bench.gate_embedder import RememberingEmbedder
from tests.bench.gate_plot import draw

THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_USER = "users/bench"
_NUM_CANDIDATES = 24
# The embedder puts the texts of questions asked at once into one batch.
_NUM_AT_ONCE = 256
_TIME = datetime(2031, 1, 1, tzinfo=UTC)
_ANYTHING = replace(GateThresholds(), probability=0.0)


@dataclass(frozen=True)
class Asked:
    """A question, the correction that it should find ("" for none), and what the gate made of it.

    The hits are those of a gate that lets everything through but another entity.
    """

    source: str
    kind: str
    expected: str
    nearest: str
    hits: tuple[Hit, ...]

    def best(self, needed: GateThresholds) -> str:
        """The memory id of the best hit, if it is in scope."""
        decided = [_at(hit, needed) for hit in self.hits if hit.is_in_scope]
        settled = gate.settle(decided, _USER, needed)
        return settled[0].memory.memory_id if settled and settled[0].is_in_scope else ""


class GateBench:
    """One memory full of corrections, and the questions asked of it."""

    def __init__(self, embedder: RememberingEmbedder, memories: Sequence[Memory]) -> None:
        self._embedder = embedder
        self._memories = memories
        self._vectors = np.array([memory.vector for memory in memories])

    @classmethod
    async def fill(cls, embedder: RememberingEmbedder, rows: Sequence[Row]) -> "GateBench":
        vectors = await embedder.embed([row.question for row in rows])
        drafts = [_draft(row) for row in rows]
        pairs = zip(drafts, vectors, strict=True)
        return cls(embedder, [with_keys(replace(draft, vector=v)) for draft, v in pairs])

    async def ask(self, source: str, kind: str, text: str, expected: str = "") -> Asked:
        (vector,) = await self._embedder.embed([text])
        cosines = self._vectors @ np.array(vector)
        order = np.argsort(-cosines)[:_NUM_CANDIDATES]
        near = [(self._memories[int(at)], float(cosines[int(at)])) for at in order]
        hits = [gate.first_look(text, memory, cosine, _ANYTHING) for memory, cosine in near]
        looked = [await self._second_look(text, hit) for hit in hits]
        return Asked(source, kind, expected, near[0][0].memory_id, tuple(looked))

    async def _second_look(self, text: str, hit: Hit) -> Hit:
        if not gate.needs_second_look(hit):
            return hit
        likenesses = await compare(self._embedder, text, hit.memory.question)
        return gate.second_look(hit, likenesses, _ANYTHING)


async def measure(rows: Sequence[Row], pool: Sequence[str]) -> list[Asked]:
    """Every question of the file and of the pool, asked once."""
    embedder = await RememberingEmbedder.load()
    bench = await GateBench.fill(embedder, rows)
    questions = list(_questions(rows, pool))
    await embedder.embed([text for _, _, text, _ in questions])
    asked: list[Asked] = []
    for start in range(0, len(questions), _NUM_AT_ONCE):
        batch = questions[start : start + _NUM_AT_ONCE]
        asked += await asyncio.gather(*(bench.ask(*question) for question in batch))
    embedder.close()
    return asked


def rates(asked: Sequence[Asked], threshold: float) -> dict[str, float]:
    """Share of each kind of question that fires: paraphrases right, all others falsely."""
    needed = replace(GateThresholds(), probability=threshold)
    kinds = dict.fromkeys(item.kind for item in asked)
    return {kind: _share([a for a in asked if a.kind == kind], needed) for kind in kinds}


def report(asked: Sequence[Asked], chosen: Sequence[float]) -> Iterator[dict[str, Any]]:
    """The lines to print."""
    sources = dict.fromkeys(item.source for item in asked if item.expected)
    for source in sources:
        own = [item for item in asked if item.source == source and item.kind == "paraphrase"]
        top_1 = sum(item.nearest == item.expected for item in own) / len(own)
        yield {"benchmark": "gate", "source": source, "retrieval_top_1": round(top_1, 4)}
    for point in THRESHOLDS:
        yield {"benchmark": "gate", "threshold": point, **rates(asked, point)}
    for threshold, source in product(chosen, (*sources, "all")):
        own = [item for item in asked if source in (item.source, "all")]
        counts = {kind: sum(a.kind == kind for a in own) for kind in rates(own, threshold)}
        found = {"chosen": threshold, "source": source, **rates(own, threshold)}
        yield {"benchmark": "gate", **found, "questions": counts}


def _questions(rows: Sequence[Row], pool: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    for row in rows:
        for number, text in enumerate(row.paraphrases):
            kind = "lead_in" if number else "paraphrase"
            yield row.source, kind, text, row.row_id
        for kind in ("unrelated", "neighborhood"):
            for text in row.of_kind(kind):
                yield row.source, kind, text, ""
    for text in pool:
        yield "pool", "unrelated", text, ""
    for source, text in near_questions(rows):
        yield source, "near", text, ""
    for row, text in other_questions(rows):
        yield row.source, "same_subject", text, ""


def _share(asked: Sequence[Asked], needed: GateThresholds) -> float:
    fired = [item.best(needed) for item in asked]
    hits = [
        best == a.expected if a.expected else bool(best)
        for best, a in zip(fired, asked, strict=True)
    ]
    return round(sum(hits) / len(asked), 4)


def _at(hit: Hit, needed: GateThresholds) -> Hit:
    is_refused = not hit.is_exact and hit.scope.score < needed.probability
    if not hit.is_in_scope or not is_refused:
        return hit
    return replace(hit, scope=replace(hit.scope, verdict=Verdict.OUT_OF_SCOPE))


def _draft(row: Row) -> Memory:
    return Memory(
        tenant="bench",
        user=_USER,
        memory_id=row.row_id,
        type=MemoryType.CORRECTION,
        text=row.answer,
        question=row.question,
        subject_key="",
        visibility=Visibility.PRIVATE,
        create_time=_TIME,
        update_time=_TIME,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--threshold", type=float, help="instead of the two of memory_svc")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    unrelated = load_pool(options.pool) if options.pool else []
    answers = asyncio.run(measure(load_rows(options.data), unrelated))
    defaults = GateThresholds()
    chosen = [options.threshold] if options.threshold else [defaults.related, defaults.probability]
    for line in report(answers, chosen):
        sys.stdout.write(json.dumps(line) + "\n")
    if options.plot:
        points = [(point, rates(answers, point)) for point in THRESHOLDS]
        options.plot.write_text(draw(points, chosen[-1]), encoding="utf-8")
