"""Hybrid search on the real store and embedder: what is found, in what order, and why nothing is.

The figures are printed; run with -s to see them.
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from selm.api.memory.v1 import memory_pb2, search_pb2
from tests.integration.memory.running import running_memory

CASES = json.loads((Path(__file__).parents[2] / "data" / "hybrid_cases.json").read_text("utf-8"))
FACT = memory_pb2.MEMORY_TYPE_FACT
PREFERENCE = memory_pb2.MEMORY_TYPE_PREFERENCE
EMPTY = search_pb2.EmptyReason
SCOPE = search_pb2.ScopeDecision


async def test_words_rescue_what_vectors_miss(memory: Any) -> None:
    """Codes and rare names that look alike to the model come first by their spelling, and what is
    asked in other words is still found by meaning."""
    facts = CASES["by_words"] + CASES["by_meaning"]
    for fact in facts:
        await memory.create("", fact["text"], type=FACT)

    words = await _ranks(memory, CASES["by_words"])
    meaning = await _ranks(memory, CASES["by_meaning"])
    for name, ranks in {"by words": words, "by meaning": meaning}.items():
        for kind in ("dense", "hybrid"):
            first, five = (_share(ranks[kind], limit) for limit in (1, 5))
            print(f"\n{name} {kind}: first {first:.2f}, among five {five:.2f}", end="")

    assert _share(words["hybrid"], 1) >= 0.95
    assert _share(words["hybrid"], 1) >= _share(words["dense"], 1) + 0.1
    assert _share(meaning["hybrid"], 1) >= _share(meaning["dense"], 1)
    assert _share(meaning["hybrid"], 5) == 1.0


async def _ranks(memory: Any, cases: list[dict[str, str]]) -> dict[str, list[int]]:
    """The place of each case's fact by cosine alone, and in the reply."""

    async def one(case: dict[str, str]) -> tuple[int, int]:
        every = await memory.search(case["query"], max_results=100, explain=True)
        by_cosine = sorted(every.hits, key=lambda hit: hit.scores.dense, reverse=True)
        hits = (await memory.search(case["query"], max_results=5)).hits
        return _place(by_cosine, case["text"]), _place(hits, case["text"])

    places = await asyncio.gather(*(one(case) for case in cases))
    return {"dense": [place[0] for place in places], "hybrid": [place[1] for place in places]}


def _place(hits: Any, text: str) -> int:
    texts = [hit.memory.text for hit in hits]
    return texts.index(text) + 1 if text in texts else 1000


def _share(ranks: list[int], limit: int) -> float:
    return sum(rank <= limit for rank in ranks) / len(ranks)


async def test_explain_tells_each_signal_that_ran(memory: Any) -> None:
    """All five for what both searches found, no BM25 for what shares no word, none at all for an
    equal question, and none unless asked."""
    await memory.create("What is the capital of Velmora?", "Tashkeri", importance=0.9)
    await memory.create("", "Boats stay ashore when it storms.", type=FACT)

    hits = (await memory.search("Velmora's capital city", explain=True)).hits
    both, meaning = (hit.scores for hit in hits)
    assert both.dense > 0.5
    assert both.sparse > 0
    assert both.fused == pytest.approx(1.0)
    assert both.recency == pytest.approx(1.0, abs=1e-4)
    assert both.importance == pytest.approx(0.9)
    assert 0 < hits[1].score < hits[0].score < 1
    assert not meaning.HasField("sparse")
    (exact,) = (await memory.search("what is the capital of velmora", explain=True)).hits
    assert exact.HasField("scores")
    assert (exact.score, exact.scores.ListFields()) == (1.0, [])
    assert not (await memory.search("Velmora's capital city")).hits[0].HasField("scores")


async def test_in_scope_goes_first_then_score(memory: Any) -> None:
    """A hit that the gate keeps out is never before one that applies."""
    for name in ("Velmora", "Brindoria", "Castavia"):
        await memory.create(f"What is the capital of {name}?", f"City of {name}", importance=1.0)
    hits = (await memory.search("Which city is the capital of Brindoria?")).hits

    assert hits[0].memory.text == "City of Brindoria"
    in_scope = [hit.scope.verdict == SCOPE.VERDICT_IN_SCOPE for hit in hits]
    assert in_scope == sorted(in_scope, reverse=True)
    for group in (True, False):
        scores = [hit.score for hit, is_in in zip(hits, in_scope, strict=True) if is_in is group]
        assert scores == sorted(scores, reverse=True)


async def test_importance_and_age_order_what_is_equally_close(memory: Any) -> None:
    """Statements of the same wording, for no gate decides between them."""
    ids = []
    for importance, color in ((0.1, "green"), (0.9, "brown")):
        text = f"The gate of the orchard is painted {color}."
        made = await memory.create("", text, type=FACT, importance=importance)
        ids.append(made.memory.name)
    hits = (await memory.search("color of the orchard gate")).hits

    assert [hit.memory.name for hit in hits] == ids[::-1]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "UNSPECIFIED"),
        ({"filter": search_pb2.MemoryFilter(types=[PREFERENCE])}, "FILTERED_OUT"),
        ({"filter": search_pb2.MemoryFilter(min_importance=0.8)}, "FILTERED_OUT"),
        ({"min_score": 0.99}, "BELOW_THRESHOLD"),
        ({"parent": "users/nobody"}, "NOTHING_STORED"),
        ({"tenant": "elsewhere"}, "NOTHING_STORED"),
    ],
)
async def test_an_empty_result_says_why(memory: Any, fields: Any, expected: str) -> None:
    """Nothing stored, before what was wanted of it, before how good it had to be."""
    await memory.create("", "The lift is out of order.", type=FACT)
    found = await memory.search("Is the elevator working?", **fields)

    assert found.empty_reason == EMPTY.Value(f"EMPTY_REASON_{expected}")
    assert bool(found.hits) is (expected == "UNSPECIFIED")


async def test_conversation_and_validity_filter_out(memory: Any) -> None:
    """They exist for their owner; not here, and not yet."""
    later = memory_pb2.Memory()
    later.valid_start_time.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    await memory.create("", "The lift is out of order.", type=FACT, conversation="conversations/c")
    await memory.create(
        "",
        "The stairs are closed.",
        type=FACT,
        parent="users/b",
        valid_start_time=later.valid_start_time,
    )

    for user in ("users/anonymous", "users/b"):
        found = await memory.search("elevator or stairs", parent=user)
        assert (len(found.hits), found.empty_reason) == (0, EMPTY.EMPTY_REASON_FILTERED_OUT)
    here = search_pb2.MemoryFilter(conversation="conversations/c")
    assert (await memory.search("elevator", filter=here)).hits


async def test_as_of_time_finds_what_was_live_then(memory: Any) -> None:
    """The superseded answer for the time before, the newer one for now; nothing for long ago."""
    question = "Who keeps the lighthouse of Ombra?"
    await memory.create(question, "Rasmus")
    between = datetime.now(UTC)
    await memory.create(question, "Odile")

    async def answers(query: str, time: datetime | None) -> list[str]:
        fields: dict[str, Any] = {} if time is None else {"as_of_time": time}
        return [hit.memory.text for hit in (await memory.search(query, **fields)).hits]

    for query in (question, "keeper of Ombra's lighthouse"):
        assert await answers(query, None) == ["Odile"]
        assert await answers(query, between) == ["Rasmus"]
        assert await answers(query, between - timedelta(days=1)) == []


async def test_labels_filter_a_search(memory: Any) -> None:
    """Typed conditions, whatever the values hold."""
    evil = '" or tenant != "'
    await memory.create("", "The lift is out of order.", type=FACT, labels={"site": "north"})
    await memory.create("", "The lift is being painted.", type=FACT, labels={"site": evil})

    def where(operator: str, *values: str) -> Any:
        number = search_pb2.LabelCondition.Operator.Value(f"OPERATOR_{operator}")
        label = search_pb2.LabelCondition(key="site", operator=number, values=values)
        return search_pb2.MemoryFilter(labels=[label])

    async def texts(wanted: Any) -> set[str]:
        return {
            hit.memory.text.split()[-1] for hit in (await memory.search("lift", filter=wanted)).hits
        }

    assert await texts(where("IN", "north")) == {"order."}
    assert await texts(where("IN", evil)) == {"painted."}
    assert await texts(where("NOT_IN", evil)) == {"order."}
    assert await texts(where("PREFIX", "no")) == {"order."}
    assert await texts(where("EXISTS")) == {"order.", "painted."}
    assert await texts(where("NOT_EXISTS")) == set()


@pytest.mark.parametrize(
    "query",
    [
        "lift\x00\x07\x1b[31m",
        '" or 1 == 1 or "',
        "+lift -order (AND OR NOT) lift~2 lift* field:lift^3 {a TO b}",
        "\u202elift\ufeff",
        "\U0001f6d7" * 2048,
        "x" * 8192,
        "?!.",
        "the of and",
    ],
)
async def test_no_query_breaks_a_search(memory: Any, query: str) -> None:
    """A query is text of a user: compared, never stored, never part of an expression."""
    await memory.create("", "The lift is out of order.", type=FACT)
    found = await memory.search(query)

    assert [hit.memory.text for hit in found.hits] == ["The lift is out of order."]


async def test_a_query_beyond_8192_bytes_is_refused(memory: Any) -> None:
    """By bytes, not by characters."""
    with pytest.raises(grpc.aio.AioRpcError, match="query: 8194 bytes, at most 8192"):
        await memory.search("ü" * 4097)


async def test_what_scopes_the_adapter_is_not_crowded_out(
    milvus_uri: str, nats_server: Any
) -> None:
    """However few hits are asked for, the best correction in scope is one of them."""
    query = "What is the climate of Velmora?"
    # So that every correction about the same is in scope, and none is likely.
    open_gate = {"gate_threshold": 1.0, "gate_related_threshold": 0.0}
    async with running_memory(milvus_uri, nats_server.url, **open_gate) as memory:
        await memory.create("What is the capital of Velmora?", "Tashkeri")
        for text in ("The climate of Velmora is mild.", "The climate of Velmora is dry."):
            await memory.create("", text, type=FACT)
        few, many = [
            [hit.scope.reason for hit in (await memory.search(query, max_results=number)).hits]
            for number in (1, 3)
        ]

    statement, related = SCOPE.REASON_NOT_GATED, SCOPE.REASON_RELATED
    assert few == [related]
    assert many == [statement, statement, related]
