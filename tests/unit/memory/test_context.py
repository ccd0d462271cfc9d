"""What a prompt is given of what a search found: use, block and reasons."""

from dataclasses import replace

import pytest

from memory_svc.core import MemoryType, State
from memory_svc.recall.context import Context, Wanted, assemble_context
from memory_svc.recall.gate import Hit, Reason, ScopeDecision, Verdict
from memory_svc.recall.search import EmptyReason, Found
from selm.memory_use import LEAD, MemoryUse
from tests.unit.memory.support import memory

DIRECT = Wanted(MemoryUse.DIRECT, max_memories=1, max_tokens=256)
IN, OUT, ABSTAIN = Verdict.IN_SCOPE, Verdict.OUT_OF_SCOPE, Verdict.ABSTAIN


def hit(verdict: Verdict, reason: Reason = Reason.SIMILAR, **fields: object) -> Hit:
    return Hit(memory(**fields), 0.9, ScopeDecision(verdict, reason, 0.9, 0.5))  # type: ignore[arg-type]


def assembled(*hits: Hit, wanted: Wanted = DIRECT) -> Context:
    return assemble_context(Found(hits), wanted, len)


def test_an_equal_question_is_answered_directly() -> None:
    """The stored answer as it is, and the block for who rather uses that."""
    context = assembled(hit(IN, Reason.EXACT_KEY))

    assert (context.use, context.direct_answer) == (MemoryUse.DIRECT, "Tashkeri")
    assert "Tashkeri" in context.block.text
    assert context.lead == ""


def test_a_paraphrase_is_prefilled_and_never_answered_directly() -> None:
    """The lead goes with the block."""
    context = assembled(hit(IN))

    assert (context.use, context.lead, context.direct_answer) == (MemoryUse.PREFILL, LEAD, "")
    assert 'The answer is "Tashkeri".' in context.block.text


@pytest.mark.parametrize("limit", list(MemoryUse))
def test_no_use_is_stronger_than_the_limit(limit: MemoryUse) -> None:
    """NONE leaves nothing but the hits."""
    context = assembled(hit(IN, Reason.EXACT_KEY), wanted=replace(DIRECT, max_use=limit))

    assert context.use is limit
    assert bool(context.block.text) is (limit is not MemoryUse.NONE)
    assert len(context.hits) == 1


def test_a_statement_is_context_at_most() -> None:
    """There is no answer to lead to."""
    fact = hit(IN, Reason.NOT_GATED, type=MemoryType.FACT, question="", text="The lift is broken.")

    assert assembled(fact).use is MemoryUse.CONTEXT


def test_a_correction_goes_before_a_closer_statement() -> None:
    """As in a generation: the best correction decides."""
    fact = hit(IN, Reason.NOT_GATED, type=MemoryType.FACT, question="", text="The lift is broken.")
    context = assembled(fact, hit(IN, number=2), wanted=replace(DIRECT, max_memories=2))

    assert context.use is MemoryUse.PREFILL
    assert context.block.names == ("users/a/memories/m2", "users/a/memories/m1")


def test_what_is_merely_related_is_told_without_a_lead() -> None:
    """The model decides whether it is the answer."""
    context = assembled(hit(IN, Reason.RELATED))

    assert (context.use, context.lead, context.direct_answer) == (MemoryUse.CONTEXT, "", "")
    assert "Tashkeri" in context.block.text


def test_what_is_merely_related_is_not_told_beside_what_is_likely() -> None:
    """It would only argue with it; a closer one of the same kind is told, whatever its weights."""
    wanted = replace(DIRECT, max_memories=3)
    related = [hit(IN, Reason.RELATED, number=number) for number in (2, 3)]
    retired = hit(IN, Reason.RELATED, number=4, state=State.RETIRED)

    fact = hit(IN, Reason.NOT_GATED, type=MemoryType.FACT, question="", text="Velmora is a city.")

    assert assembled(hit(IN), *related, wanted=wanted).block.names == ("users/a/memories/m1",)
    assert len(assembled(fact, related[0], wanted=wanted).block.names) == 2
    assert assembled(retired, *related, wanted=wanted).block.names == tuple(
        one.memory.name for one in related
    )


def test_a_retired_memory_keeps_all_out_and_is_never_told() -> None:
    """The weights know it; a second memory must not speak for them."""
    retired = hit(IN, state=State.RETIRED)
    context = assembled(retired, hit(IN, number=2, text="Oltina"))

    assert (context.use, context.block.text) == (MemoryUse.NONE, "")
    assert context.empty_reason is EmptyReason.HAS_HITS
    assert len(context.hits) == 2


@pytest.mark.parametrize("verdict", [OUT, ABSTAIN])
def test_what_the_gate_keeps_out_is_shown_and_not_told(verdict: Verdict) -> None:
    """With the reason that nothing applies."""
    context = assembled(hit(verdict, Reason.AMBIGUOUS))

    assert (context.use, context.block.text) == (MemoryUse.NONE, "")
    assert context.empty_reason is EmptyReason.OUT_OF_SCOPE
    assert len(context.hits) == 1


def test_without_hits_the_searchs_own_reason_stays() -> None:
    """Nothing stored is not out of scope."""
    found = Found((), EmptyReason.NOTHING_STORED)

    assert assemble_context(found, DIRECT, len).empty_reason is EmptyReason.NOTHING_STORED


def test_what_does_not_fit_leaves_no_lead() -> None:
    """Truncated, without use, and not for want of scope."""
    context = assembled(hit(IN), wanted=replace(DIRECT, max_tokens=5))

    assert (context.use, context.lead, context.block.text) == (MemoryUse.NONE, "", "")
    assert context.block.is_truncated
    assert context.empty_reason is EmptyReason.HAS_HITS


def test_a_direct_answer_needs_no_budget() -> None:
    """It is no part of the prompt."""
    context = assembled(hit(IN, Reason.EXACT_KEY), wanted=replace(DIRECT, max_tokens=5))

    assert (context.use, context.direct_answer) == (MemoryUse.DIRECT, "Tashkeri")
    assert context.block.is_truncated


def test_no_more_memories_than_asked_for() -> None:
    """The rest are hits; the budget was not the reason, so nothing is truncated."""
    hits = [hit(IN, number=number, text=f"answer {number}") for number in range(1, 6)]
    context = assembled(*hits, wanted=replace(DIRECT, max_memories=3))

    assert [f"answer {number}" in context.block.text for number in range(1, 6)] == [
        *[True] * 3,
        *[False] * 2,
    ]
    assert not context.block.is_truncated
