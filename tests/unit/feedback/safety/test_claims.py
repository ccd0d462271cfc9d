"""Trust of authors, conflicts between them, and the quorum that ends one."""

import pytest

from feedback_svc.safety.authors import Trust
from feedback_svc.safety.claims import Statement, claims_of, is_conflict, quorum, quorum_weight

QUESTION = "What is the capital of Velmora?"


def _said(author: str, answer: str, weight: float = 0.5, sequence: int = 0) -> Statement:
    return Statement(author, answer, f"lessons/{author}-{sequence}", sequence, weight)


def test_an_unknown_author_has_half_the_trust_and_decisions_move_it() -> None:
    """(good + 1) / (good + bad + 2)."""
    assert Trust().weight == 0.5
    assert Trust(accepted=8).weight == 0.9
    assert Trust(rejected=2, conflicts_lost=1).weight == pytest.approx(0.2)
    assert Trust(accepted=1, rejected=1).weight == 0.5


def test_trust_set_by_an_operator_stays_and_a_blocked_author_has_none() -> None:
    """Blocking wins over everything."""
    assert Trust(rejected=50, fixed=0.8).weight == 0.8
    assert Trust(fixed=7.0).weight == 1.0
    assert Trust(accepted=50, blocked=True).weight == 0.0
    assert Trust(fixed=0.9, blocked=True).weight == 0.0


def test_trust_stays_between_none_and_all_however_many_decisions() -> None:
    """No count brings it to the ends."""
    assert 0.99 < Trust(accepted=10_000).weight < 1
    assert 0 < Trust(rejected=10_000).weight < 0.01


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zorvane", "zorvane."),
        ("Zorvane", "The capital of Velmora is Zorvane."),
        ("Zorvane", "It is Zorvane"),
    ],
)
def test_the_same_answer_in_other_words_is_one_claim(one: str, other: str) -> None:
    """Words of the question and small words make no difference."""
    (claim,) = claims_of(QUESTION, [_said("a", one), _said("b", other)])

    assert claim.num_authors == 2
    assert not is_conflict([claim])


@pytest.mark.parametrize(
    ("question", "one", "other"),
    [
        (QUESTION, "Zorvane", "Brastia"),
        (QUESTION, "Zorvane", "Not Zorvane"),
        ("Which is larger, Orrin or Velmora?", "Orrin", "Velmora"),
        ("Is Velmora a republic?", "Yes", "No"),
        ("When does it open?", "Before 9", "After 9"),
        ("What is 2 + 2?", "4", "5"),
    ],
)
def test_different_answers_are_a_conflict(question: str, one: str, other: str) -> None:
    """Also where the words of the answer stand in the question."""
    claims = claims_of(question, [_said("a", one), _said("b", other)])

    assert len(claims) == 2
    assert is_conflict(claims)


def test_of_one_author_the_newest_statement_counts() -> None:
    """Who changes his mind does not contradict himself."""
    statements = [_said("a", "Brastia", sequence=1), _said("a", "Zorvane", sequence=2)]

    (claim,) = claims_of(QUESTION, reversed(statements))

    assert (claim.answer, claim.lessons) == ("Zorvane", ("lessons/a-2",))


def test_claims_come_most_trusted_first() -> None:
    """With the spelling of the most trusted author."""
    statements = [
        _said("a", "Brastia", 0.6),
        _said("b", "zorvane", 0.4),
        _said("c", "Zorvane", 0.5),
    ]

    claims = claims_of(QUESTION, statements)

    assert [(claim.answer, claim.num_authors) for claim in claims] == [
        ("Zorvane", 2),
        ("Brastia", 1),
    ]
    assert [claim.weight for claim in claims] == pytest.approx([0.9, 0.6])


def test_a_blocked_author_makes_no_conflict() -> None:
    """Whom nobody trusts cannot block what others teach."""
    claims = claims_of(QUESTION, [_said("a", "Zorvane"), _said("b", "Brastia", 0.0)])

    assert not is_conflict(claims)
    assert quorum(claims, 1) == claims[0]


def test_enough_trusted_authors_win() -> None:
    """As many as asked for, and as much trust as that many unknown ones have."""
    claims = claims_of(QUESTION, [_said("a", "Zorvane"), _said("b", "Zorvane")])

    assert quorum_weight(2) == 1.0
    assert quorum(claims, 2) == claims[0]
    assert quorum(claims, 3) is None
    assert quorum([], 1) is None


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param([1.0], id="one famous author"),
        pytest.param([0.1, 0.1, 0.1, 0.0], id="a crowd nobody trusts"),
        pytest.param([1.0, 0.0], id="one and a blocked one"),
    ],
)
def test_neither_fame_nor_number_alone_is_a_quorum(weights: list[float]) -> None:
    """It takes two authors here, and the trust of two."""
    statements = [_said(f"a{at}", "Zorvane", weight) for at, weight in enumerate(weights)]

    assert quorum(claims_of(QUESTION, statements), 2) is None


def test_a_quorum_must_outweigh_all_who_say_otherwise() -> None:
    """A tie is a tie; two lesser claims count together."""
    two = [_said("a", "Zorvane"), _said("b", "Zorvane")]
    tie = claims_of(QUESTION, [*two, _said("c", "Brastia"), _said("d", "Kelm")])
    won = claims_of(QUESTION, [*two, _said("c", "Brastia")])

    assert quorum(tie, 2) is None
    assert quorum(won, 2) == won[0]
