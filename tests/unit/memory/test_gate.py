"""The scope gate's rules, with similarities given."""

from memory_svc import gate
from memory_svc.core import GateThresholds, MemoryType, Visibility
from memory_svc.gate import Hit, Reason, Verdict
from tests.unit.memory.support import memory

NEEDED = GateThresholds()


def look(query: str, cosine: float, form: float = 1.0, **fields: object) -> Hit:
    """Both looks at one memory."""
    hit = gate.first_look(query, memory(**fields), cosine, NEEDED)  # type: ignore[arg-type]
    return gate.second_look(query, hit, form, NEEDED) if gate.needs_form(hit, NEEDED) else hit


def test_an_equal_key_is_in_scope_whatever_the_similarity() -> None:
    """The exact question needs no model to be recognised."""
    hit = look("what is the capital of velmora", cosine=-1.0)

    assert (
        hit.scope.verdict,
        hit.scope.reason,
        hit.score,
    ) == (Verdict.IN_SCOPE, Reason.EXACT_KEY, 1.0)


def test_similar_with_every_entity_word_and_form_is_in_scope() -> None:
    """All three parts must hold."""
    hit = look("Which city is Velmora's capital?", cosine=0.9, form=0.7)

    assert (hit.scope.verdict, hit.scope.reason) == (Verdict.IN_SCOPE, Reason.SIMILAR)


def test_less_than_the_threshold_is_out_of_scope() -> None:
    """The score and what was needed are told."""
    scope = look("Which city is Velmora's capital?", cosine=0.59).scope

    assert (scope.verdict, scope.reason) == (Verdict.OUT_OF_SCOPE, Reason.BELOW_THRESHOLD)
    assert (scope.score, scope.threshold) == (0.59, 0.60)


def test_another_entity_is_out_of_scope_and_named() -> None:
    """The same question about something else does not apply, however similar."""
    scope = look("What is the capital of Brindoria?", cosine=0.99).scope

    assert (scope.verdict, scope.reason) == (Verdict.OUT_OF_SCOPE, Reason.ENTITY_MISSING)
    assert scope.missing_words == ("velmora",)


def test_another_question_about_the_entity_is_out_of_scope() -> None:
    """By the form, or by a word that asks for something else."""
    by_form = look("What is the climate of Velmora?", cosine=0.8, form=0.3).scope
    by_kind = look("Who is from the capital of Velmora?", cosine=0.8, question=_WHEN).scope

    assert (
        by_form.reason,
        by_form.score,
        by_form.threshold,
    ) == (Reason.BELOW_THRESHOLD, 0.3, 0.55)
    assert Verdict.OUT_OF_SCOPE is by_kind.verdict


def test_other_types_are_judged_by_similarity_alone() -> None:
    """A fact has no question that it could be the wrong answer to."""
    fact = {"type": MemoryType.FACT, "question": "", "text": "The lift is out of order."}
    near, far = look("Is the lift working?", 0.7, **fact), look("Is it late?", 0.2, **fact)

    assert [near.scope.reason, far.scope.reason] == [Reason.NOT_GATED, Reason.BELOW_THRESHOLD]


def test_equally_close_and_different_abstain() -> None:
    """Two of one's own differently worded questions that both fit: nobody knows."""
    query = "velmora capital"
    one = look(query, 0.80, number=1)
    other = look(query, 0.805, number=2, question="Which is Velmora's capital?", text="Oltina")
    settled = gate.settle([one, other], "users/a", NEEDED)

    assert [hit.scope.reason for hit in settled] == [Reason.AMBIGUOUS] * 2


def test_equally_close_and_equal_do_not_abstain() -> None:
    """The same answer twice is one answer."""
    one, other = look(_QUERY, 0.8, number=1), look(_QUERY, 0.8, number=2)

    assert all(hit.is_in_scope for hit in gate.settle([one, other], "users/a", NEEDED))


def test_the_closer_of_two_decides() -> None:
    """Beyond the margin the better match is in scope alone at the top."""
    one = look(_QUERY, 0.9, number=1)
    other = look(_QUERY, 0.7, number=2, text="Oltina")

    best, second = gate.settle([other, one], "users/a", NEEDED)
    assert (best.score, second.score) == (0.9, 0.7)
    assert best.is_in_scope


def test_ones_own_memory_goes_before_a_shared_one() -> None:
    """The owner's answer is in scope for the owner, the other abstains."""
    shared = {"visibility": Visibility.SHARED}
    mine = look(_EXACT, 1.0, number=1, user="users/a", **shared)
    theirs = look(_EXACT, 1.0, number=2, user="users/b", text="Oltina", **shared)
    best, other = gate.settle([theirs, mine], "users/a", NEEDED)

    assert (best.memory.user, best.is_in_scope) == ("users/a", True)
    assert Verdict.ABSTAIN is other.scope.verdict


def test_in_scope_comes_before_more_similar_out_of_scope() -> None:
    """Best first means what applies first."""
    fits = look(_QUERY, 0.65, number=1)
    missing = look(_QUERY, 0.95, number=2, question="What is the capital of Brindoria?")

    assert [fits, missing] == gate.settle([missing, fits], "users/a", NEEDED)


_WHEN = "When was the capital of Velmora founded?"
_QUERY = "Which city is Velmora's capital?"
_EXACT = "What is the capital of Velmora?"
