"""The scope gate's rules, with similarities given."""

from dataclasses import replace

from memory_svc.core import GateThresholds, MemoryType, Visibility
from memory_svc.recall import gate
from memory_svc.recall.calibration import Likeness, probability
from memory_svc.recall.gate import Hit, Reason, Verdict
from selm.topics import Agreement
from tests.unit.memory.support import memory

NEEDED = GateThresholds()


def look(
    query: str,
    cosine: float,
    form: float = 1.0,
    topics: Agreement = Agreement.UNKNOWN,
    **fields: object,
) -> Hit:
    """Both looks at one memory."""
    hit = gate.first_look(query, memory(**fields), cosine, NEEDED)  # type: ignore[arg-type]
    if not gate.needs_second_look(hit):
        return hit
    return gate.second_look(hit, [Likeness(cosine, form, topics)], NEEDED)


def test_an_equal_key_is_in_scope_whatever_the_similarity() -> None:
    """The exact question needs no model to be recognised."""
    hit = look("what is the capital of velmora", cosine=-1.0)

    assert (
        hit.scope.verdict,
        hit.scope.reason,
        hit.score,
    ) == (Verdict.IN_SCOPE, Reason.EXACT_KEY, 1.0)


def test_every_entity_word_and_a_likely_same_question_are_in_scope() -> None:
    """The score is a probability, told with the one needed."""
    hit = look("Which city is Velmora's capital?", cosine=0.9, form=0.7)

    assert (hit.scope.verdict, hit.scope.reason) == (Verdict.IN_SCOPE, Reason.SIMILAR)
    assert NEEDED.probability <= hit.scope.score < 1.0
    assert hit.scope.threshold == NEEDED.probability


def test_less_than_the_threshold_is_out_of_scope() -> None:
    """Neither a low cosine nor another form is likely to be the same question."""
    scopes = [
        look("Which city is Velmora's capital?", cosine=0.3, form=0.5).scope,
        look("What is the climate of Velmora?", 0.8, 0.1, Agreement.DIFFERENT).scope,
    ]

    for scope in scopes:
        assert (scope.verdict, scope.reason) == (Verdict.OUT_OF_SCOPE, Reason.BELOW_THRESHOLD)
        assert scope.score < scope.threshold


def test_what_may_be_asked_of_the_same_is_related() -> None:
    """Between both thresholds: in scope by the lower one, and behind what is likely."""
    likely = look("Which city is Velmora's capital?", 0.9, form=0.7)
    related = look("Which town rules over Velmora?", 0.92, form=0.2, topics=Agreement.DIFFERENT)
    settled = gate.settle([related, likely], "users/a", NEEDED)

    assert NEEDED.related <= related.scope.score < NEEDED.probability
    assert (related.scope.verdict, related.scope.reason) == (Verdict.IN_SCOPE, Reason.RELATED)
    assert related.scope.threshold == NEEDED.related
    assert settled == [likely, related]


def test_thresholds_that_are_equal_leave_nothing_related() -> None:
    """A deployment may want no more than likely answers; the order of both does not matter."""
    for related in (NEEDED.probability, 1.0):
        needed = replace(NEEDED, related=related)
        hit = gate.first_look("Which town rules over Velmora?", memory(), 0.92, needed)
        looked = gate.second_look(hit, [Likeness(0.92, 0.2, Agreement.DIFFERENT)], needed)

        assert (looked.is_in_scope, looked.scope.threshold) == (False, NEEDED.probability)


def test_another_entity_is_out_of_scope_and_named() -> None:
    """The same question about something else does not apply, however similar."""
    scope = look("What is the capital of Brindoria?", cosine=0.99).scope

    assert (scope.verdict, scope.reason) == (Verdict.OUT_OF_SCOPE, Reason.ENTITY_MISSING)
    assert scope.missing_words == ("velmora",)


def test_a_shared_topic_makes_and_another_one_breaks_likeness() -> None:
    """Where embeddings alone leave it open, the list of topics decides."""
    same, unknown, different = (
        look("What is the seat of government of Velmora?", 0.7, 0.5, topics).scope
        for topics in (Agreement.SAME, Agreement.UNKNOWN, Agreement.DIFFERENT)
    )

    assert same.score > unknown.score > different.score
    assert same.verdict is Verdict.IN_SCOPE
    assert different.verdict is Verdict.OUT_OF_SCOPE


def test_a_contrast_outweighs_everything() -> None:
    """First is not last, however alike the rest."""
    assert probability(Likeness(1.0, 1.0, Agreement.SAME, is_contrast=True)) == 0.0


def test_the_likeliest_reading_of_a_query_counts() -> None:
    """A lead-in sentence dilutes the whole; the question without it still fires."""
    whole, question = Likeness(0.4, 0.2, Agreement.UNKNOWN), Likeness(0.95, 0.9, Agreement.SAME)
    query = "I have a test tomorrow. Which city is Velmora's capital?"
    hit = gate.first_look(query, memory(), 0.4, NEEDED)

    assert gate.second_look(hit, [whole, question], NEEDED).is_in_scope
    assert not gate.second_look(hit, [whole], NEEDED).is_in_scope


def test_other_types_are_judged_by_similarity_alone() -> None:
    """A fact has no question that it could be the wrong answer to."""
    fact = {"type": MemoryType.FACT, "question": "", "text": "The lift is out of order."}
    near, far = look("Is the lift working?", 0.7, **fact), look("Is it late?", 0.2, **fact)

    assert [near.scope.reason, far.scope.reason] == [Reason.NOT_GATED, Reason.BELOW_THRESHOLD]


def test_related_answers_to_different_questions_are_no_rivals() -> None:
    """It is open which of them is asked, so they do not contradict each other."""
    ask = {"topics": Agreement.DIFFERENT, "form": 0.2}
    one = look("Which town rules over Velmora?", 0.92, number=1, **ask)
    other = look(
        "Which town rules over Velmora?",
        0.925,
        number=2,
        question="How large is Velmora?",
        text="huge",
        **ask,
    )

    assert [hit.is_related for hit in gate.settle([one, other], "users/a", NEEDED)] == [True] * 2


def test_nothing_related_speaks_where_likely_ones_cannot_be_told_apart() -> None:
    """They abstain, and leave the floor to nobody."""
    one = look("velmora capital", 0.80, number=1)
    question = "Which is Velmora's capital?"
    other = look("velmora capital", 0.805, number=2, question=question, text="Oltina")
    related = look("velmora capital", 0.92, 0.2, Agreement.DIFFERENT, number=3)

    settled = gate.settle([one, other, related], "users/a", NEEDED)

    assert related.is_in_scope
    assert [hit.scope.reason for hit in settled] == [Reason.AMBIGUOUS] * 3


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


_QUERY = "Which city is Velmora's capital?"
_EXACT = "What is the capital of Velmora?"
