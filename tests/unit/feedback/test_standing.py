"""Which claim wins, and how far each event goes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from feedback_svc.core import Decision, FeedbackRecord
from feedback_svc.review.standing import Resolution, Standing, reaches, stand
from feedback_svc.signals import Correction
from selm.lessons import Consent

NOW = datetime(2026, 5, 1, tzinfo=UTC)
QUESTION = "What is the capital of Velmora?"
PRIVATE, SHARED = Consent.PRIVATE_ADAPTER, Consent.SHARED_ADAPTER


def said(
    author: str, answer: str, sequence: int, reach: Consent = PRIVATE, decider: str = ""
) -> FeedbackRecord:
    return FeedbackRecord(
        tenant="t",
        name=f"feedbackEvents/{sequence}",
        signal=Correction(answer, QUESTION),
        generation="generations/g",
        conversation="",
        user=f"users/{author}",
        adapter="adapters/default",
        consent=SHARED,
        labels={},
        author=author,
        adapter_revision="",
        lesson=f"lessons/{sequence}",
        event_time=NOW,
        create_time=NOW + timedelta(seconds=sequence),
        sequence=sequence,
        reach=reach,
        decision=Decision(decider, "", NOW) if decider else None,
    )


def standing(
    records: list[FeedbackRecord],
    quorum_authors: int = 2,
    resolution: Resolution | None = None,
    trust: dict[str, float] | None = None,
) -> Standing:
    return stand(records, lambda author: (trust or {}).get(author, 0.5), quorum_authors, resolution)


def winner(found: Standing) -> tuple[str, str]:
    return (found.winner.answer if found.winner else "", found.resolver)


def changes(records: list[FeedbackRecord], found: Standing, n: int = 2) -> dict[int, Consent]:
    return {record.sequence: reach for record, reach in reaches(records, found, n)}


ANNA, BO, CLEO = said("anna", "Zorvane", 1), said("bo", "Lutz", 2), said("cleo", "Zorvane", 3)


def id_of(answer: str) -> str:
    found = standing([ANNA, BO, CLEO])
    return next(found.id_of(claim) for claim in found.claims if claim.answer == answer)


CHOSEN = Resolution(id_of("Lutz"), "rita", "", 3)


@pytest.mark.parametrize(
    ("records", "quorum_authors", "expected"),
    [
        ([ANNA], 2, ("", "")),
        ([ANNA, BO], 2, ("", "")),
        ([ANNA, CLEO], 2, ("Zorvane", "quorum")),
        ([ANNA, BO, CLEO], 2, ("Zorvane", "quorum")),
        ([ANNA, BO, CLEO], 3, ("", "")),
        ([ANNA, BO], 1, ("Lutz", "quorum")),
        ([ANNA, said("anna", "Zorvane", 4)], 2, ("", "")),
    ],
)
def test_a_claim_wins_by_quorum_or_without_one_by_being_the_newest(
    records: list[FeedbackRecord], quorum_authors: int, expected: tuple[str, str]
) -> None:
    assert winner(standing(records, quorum_authors)) == expected


def test_a_reviewers_choice_holds_against_those_who_had_spoken() -> None:
    """A majority of before does not overrule him, nor one who disagrees since."""
    records = [ANNA, BO, CLEO]
    assert winner(standing(records, 2, CHOSEN)) == ("Lutz", "rita")
    later = [*records, said("dan", "Zorvane", 4)]
    assert winner(standing(later, 2, CHOSEN)) == ("Lutz", "rita")


def test_a_reviewers_choice_ends_with_a_quorum_since_or_with_its_last_author() -> None:
    since = [said("dan", "Zorvane", 4), said("eve", "Zorvane", 5)]
    assert winner(standing([ANNA, BO, CLEO, *since], 2, CHOSEN)) == ("Zorvane", "quorum")
    assert winner(standing([ANNA, CLEO], 2, CHOSEN)) == ("Zorvane", "quorum")
    assert winner(standing([ANNA, BO], 2, CHOSEN, {"bo": 0.0})) == ("", "")


def test_the_quorum_widens_what_agrees_and_nothing_else() -> None:
    """An older word of the same author stays, and so does one of a blocked author."""
    dan, older = said("dan", "Zorvane", 4), said("cleo", "Zorvane", 0)
    records = [older, ANNA, BO, CLEO, dan]
    found = standing(records, trust={"dan": 0.0})
    assert changes(records, found) == {1: SHARED, 3: SHARED}


def test_a_lost_quorum_narrows_what_it_had_widened() -> None:
    """What was shared before anybody asked for a quorum stays, unless somebody contradicts."""
    widened = replace(ANNA, reach=SHARED, decision=Decision("quorum", "", NOW))
    before = said("anna", "Zorvane", 1, reach=SHARED)
    assert changes([widened], standing([widened])) == {1: PRIVATE}
    assert changes([before], standing([before])) == {}
    assert changes([before, BO], standing([before, BO])) == {1: PRIVATE}


def test_without_a_quorum_everything_is_shared_but_what_a_reviewer_decided_against() -> None:
    records = [ANNA, replace(BO, reach=SHARED)]
    assert changes(records, standing(records, 1), 1) == {1: SHARED}
    assert changes(records, standing(records, 1, CHOSEN), 1) == {}
    shared = [replace(ANNA, reach=SHARED), BO]
    assert changes(shared, standing(shared, 1, CHOSEN), 1) == {1: PRIVATE, 2: SHARED}


def test_a_claim_keeps_its_id_however_it_is_spelled() -> None:
    one = standing([ANNA])
    other = standing([said("bo", "The capital of Velmora is Zorvane.", 1)])
    assert one.id_of(one.claims[0]) == other.id_of(other.claims[0])
