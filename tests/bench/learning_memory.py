"""Arm `memory` of the learning benchmark: what corrections in memory do without any training.

1 Store the facts. 2 Search: retrieval, gate, false fires. 3 Ask by each policy. 4 Unrelated answers
with memory and without. 5 What other questions about a stored subject are answered with its answer.
"""

from collections.abc import Sequence

from selm.questions import answer_contains
from tests.bench.edits import (
    Edit,
    Query,
    near_queries,
    renamed_queries,
    spread,
    swapped_queries,
    unrelated_queries,
)
from tests.bench.learning_asks import CONTEXT, DEFAULT, NEAR_EXACT, NO_MEMORY, Way
from tests.bench.learning_bench import Bench, took_part
from tests.bench.learning_counts import Goal, Mark, counted
from tests.bench.learning_memory_rpcs import Search, Stored

# A policy and the shares it must reach on questions and on paraphrases; add one here to measure it.
POLICIES: tuple[tuple[Way, Goal | None, Goal | None], ...] = (
    (CONTEXT, Goal(at_least=0.78), Goal(at_least=0.75)),
    (DEFAULT, Goal(at_least=0.95), Goal(at_least=0.90)),
    (NEAR_EXACT, Goal(at_least=0.95), Goal(at_least=0.90)),
)
FIRES = Goal(at_least=0.95)
# Fewer say nothing about one percent.
FALSE_FIRES = Goal(at_most=0.01, min_n=400)
LOCALITY = Goal(at_least=0.99)
NUM_SWAPPED = 400


async def measure_memory(bench: Bench) -> None:
    """Every number of this arm, as it becomes known."""
    stored = await bench.memory.store(bench.edits)
    note_stored(bench, bench.edits, stored)
    await _measure_gate(bench, stored)
    await _measure_false_fires(bench)
    if bench.is_search_only:
        return
    for way, on_questions, on_paraphrases in POLICIES:
        await _measure_policy(bench, way, on_questions, on_paraphrases)
    await _measure_locality(bench)
    await _measure_spill(bench)


def note_stored(bench: Bench, edits: Sequence[Edit], stored: Sequence[Stored]) -> None:
    """How many facts are in memory; one that gave way to another is not."""
    marks = [
        Mark((edit.source,), bool(one.name) if not one.failure else None)
        for edit, one in zip(edits, stored, strict=True)
    ]
    bench.journal.add(
        "stored",
        marks,
        superseded=sum(bool(one.superseded) for one in stored),
        duplicates=sum(one.is_duplicate for one in stored),
        failures=counted(one.failure for one in stored if one.failure),
    )


async def _measure_gate(bench: Bench, stored: Sequence[Stored]) -> None:
    for name, queries, goal in (
        ("question", [edit.question for edit in bench.edits], None),
        ("paraphrase", [edit.paraphrase for edit in bench.edits], FIRES),
    ):
        found = await bench.asker.in_groups(f"search {name}", queries, bench.memory.search)
        rows = list(zip(bench.edits, stored, found, strict=True))
        top = [Mark((e.source,), None if f.failure else f.top == s.name) for e, s, f in rows]
        fires = [Mark((e.source,), None if f.failure else bool(f.fired)) for e, _, f in rows]
        right = [Mark((e.source,), None if f.failure else f.fired == s.name) for e, s, f in rows]
        reasons = counted(f.reason for f in found if not f.failure)
        bench.journal.add(f"retrieval_top1_{name}", top)
        bench.journal.add(f"gate_fires_{name}", fires, goal, reasons=reasons)
        bench.journal.add(f"gate_fires_right_memory_{name}", right)
        for query, search in zip(queries, found, strict=True):
            bench.journal.keep(measure=f"search_{name}", query=query, search=vars(search))


async def _measure_false_fires(bench: Bench) -> None:
    unrelated = unrelated_queries(bench.edits, bench.pool)
    near = near_queries(bench.edits, bench.edits)
    near += renamed_queries(bench.edits, NUM_SWAPPED, bench.seed)
    known = _other_questions_of_known_subjects(bench)
    for name, queries, goal in (
        ("unrelated", unrelated, FALSE_FIRES),
        ("near", near, FALSE_FIRES),
        ("other_question_of_known_subject", known, None),
    ):
        texts = [query.text for query in queries]
        found = await bench.asker.in_groups(f"search {name}", texts, bench.memory.search)
        _add_false_fires(bench, f"gate_false_fires_{name}", queries, found, goal)


def _add_false_fires(
    bench: Bench,
    measure: str,
    queries: Sequence[Query],
    found: Sequence[Search],
    goal: Goal | None,
) -> None:
    marks = []
    for query, search in zip(queries, found, strict=True):
        fired = None if search.failure else bool(search.fired)
        marks.append(Mark((query.source, query.kind), fired))
        bench.journal.keep(
            measure=measure, query=query.text, kind=query.kind, fired=fired, search=vars(search)
        )
    reasons = counted(search.reason for search in found if not search.failure)
    bench.journal.add(measure, marks, goal, reasons=reasons)


async def _measure_policy(
    bench: Bench, way: Way, on_questions: Goal | None, on_paraphrases: Goal | None
) -> None:
    edits = bench.edits
    for name, questions, goal in (
        ("question", [edit.question for edit in edits], on_questions),
        ("paraphrase", [edit.paraphrase for edit in edits], on_paraphrases),
    ):
        replies = await bench.asker.ask_all(f"{way.name} {name}", questions, way)
        bench.add_right(f"right_{way.name}_{name}", edits, questions, replies, goal)


async def _measure_locality(bench: Bench) -> None:
    """The same groups in the same order three times: with memory, without, and without again."""
    queries = spread(unrelated_queries(bench.edits, bench.pool), bench.num_compared)
    texts = [query.text for query in queries]
    ask_all = bench.asker.ask_all
    without = await ask_all("unrelated, no memory", texts, NO_MEMORY)
    with_memory = await ask_all("unrelated, memory", texts, DEFAULT)
    again = await ask_all("unrelated, no memory again", texts, NO_MEMORY)
    bench.add_identical("unrelated_identical", queries, with_memory, without, LOCALITY)
    bench.add_identical("unrelated_identical_null", queries, again, without)


async def _measure_spill(bench: Bench) -> None:
    """Answers that hold a stored one about the same subject, which is asked something else."""
    queries = _other_questions_of_known_subjects(bench)
    texts = [query.text for query in queries]
    for way in (DEFAULT, NO_MEMORY):
        replies = await bench.asker.ask_all(f"other question, {way.name}", texts, way)
        marks = [
            Mark((query.source,), None if reply.text is None else _spills(bench, query, reply.text))
            for query, reply in zip(queries, replies, strict=True)
        ]
        bench.journal.add(
            f"stored_answer_to_other_question_{way.name}", marks, **took_part(replies)
        )


def _spills(bench: Bench, query: Query, text: str) -> bool:
    about = [edit for edit in bench.edits if edit.subject.casefold() in query.text.casefold()]
    return any(answer_contains(edit.answer, text) for edit in about)


def _other_questions_of_known_subjects(bench: Bench) -> list[Query]:
    """Harder than near: memory knows the subject, and is asked something else about it."""
    return swapped_queries(bench.edits, bench.edits, NUM_SWAPPED, bench.seed)
