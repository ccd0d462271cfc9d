"""The scope gate on invented corrections, with the real embedder and store: who fires, who not.

The figures are printed; run with -s to see them.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from selm.api.memory.v1 import search_pb2

CASES = json.loads((Path(__file__).parents[2] / "data" / "gate_cases.json").read_text("utf-8"))
RELATED = search_pb2.ScopeDecision.REASON_RELATED
IN_SCOPE = search_pb2.ScopeDecision.VERDICT_IN_SCOPE


async def test_paraphrases_fire_and_other_questions_do_not(memory: Any) -> None:
    """At least .95 of the paraphrases, no unrelated question, no question about another entity; of
    other questions about the same entity at most .10 are held for the same, and .40 in scope."""
    corrections = CASES["corrections"]
    for case in corrections:
        await memory.create(case["question"], case["answer"])

    exact = await _fired(memory, [(c["question"], c["answer"]) for c in corrections])
    asked = [(text, c["answer"]) for c in corrections for text in c["paraphrases"]]
    paraphrases = await _fired(memory, asked)
    held_for_same = await _fired(memory, asked, likely=True)
    lowered = await _fired(memory, [(text.lower(), answer) for text, answer in asked])
    entities = await _fired(memory, _others(corrections, "other_entity"), own=True)
    others = _others(corrections, "other_relation")
    relations = await _fired(memory, others, own=True, likely=True)
    related = await _fired(memory, others, own=True)
    unrelated = await _fired(memory, [(text, "") for text in CASES["unrelated"]], any_hit=True)
    print(f"\n{exact=:.3f} {paraphrases=:.3f} {held_for_same=:.3f} {lowered=:.3f}")
    print(f"{unrelated=:.3f} {entities=:.3f} {relations=:.3f} {related=:.3f}")

    assert exact == 1.0
    assert paraphrases >= 0.95
    assert held_for_same >= 0.95
    assert lowered >= 0.95
    assert unrelated == 0.0
    assert entities == 0.0
    assert relations <= 0.1
    assert related <= 0.4


async def test_siblings_neither_fire_nor_supersede(memory: Any) -> None:
    """Questions that differ in one decisive word: nearly all are told apart, and the acknowledged
    answer of one is not replaced by that of the other unless the words agree."""
    fired, related, superseded = [], [], []
    for number, pair in enumerate(CASES["siblings"]):
        user = f"users/u{number}"
        await memory.create(pair["question"], "one", parent=user)
        hits = (await memory.search(pair["other_question"], parent=user)).hits
        in_scope = [hit.scope.reason for hit in hits if hit.scope.verdict == IN_SCOPE]
        fired += [pair for reason in in_scope if reason != RELATED]
        related += [pair for reason in in_scope if reason == RELATED]
        other = await memory.create(pair["other_question"], "other", parent=user)
        superseded += [pair for _ in [0] if other.superseded_memory]
    counts = f"{len(fired)} fired, {len(related)} related, {len(superseded)} superseded"
    print(f"\n{counts} of {len(CASES['siblings'])}")

    assert len(fired) <= 3
    assert len(related) <= 3
    assert len(superseded) <= 1


def _others(corrections: Any, field: str) -> list[tuple[str, str]]:
    return [(text, case["answer"]) for case in corrections for text in case[field]]


async def _fired(
    memory: Any,
    asked: list[tuple[str, str]],
    *,
    own: bool = False,
    any_hit: bool = False,
    likely: bool = False,
) -> float:
    """Share of queries whose best hit is in scope with that answer; `any_hit`: with any answer;
    `own`: anywhere among the hits; `likely`: not as merely related."""

    async def one(query: str, answer: str) -> bool:
        hits = (await memory.search(query, max_results=5)).hits
        in_scope = [hit for hit in hits if hit.scope.verdict == IN_SCOPE]
        counted = [hit for hit in in_scope if not likely or hit.scope.reason != RELATED]
        texts = [hit.memory.text for hit in counted]
        if any_hit:
            return bool(texts)
        return answer in (texts if own else texts[:1])

    results = await asyncio.gather(*(one(query, answer) for query, answer in asked))
    return sum(results) / len(results)
