"""The gate's rules, one by one, on answers written by hand."""

import pytest

from trainer_svc.training.gates import (
    ABSTAIN,
    BASE,
    BASELINE,
    CANDIDATE,
    EFFICACY,
    FLUENCY,
    NEIGHBOR,
    PARAPHRASE,
    PROMOTE,
    REJECT,
    RETENTION,
    SUPERSEDED,
    UNRELATED,
    Example,
    Measurement,
    Thresholds,
    judge,
)


def examples(name: str, *passed: bool, **others: bool) -> list[Example]:
    """One example per flag; `others` says how another arm did on all of them."""
    arms = {arm.upper(): right for arm, right in others.items()}
    return [
        Example(name, f"lessons/{i}", f"prompt {i}", "x", {}, arms | {CANDIDATE: right})
        for i, right in enumerate(passed)
    ]


def measured(*groups: list[Example], kept: float = 0.9) -> Measurement:
    """A round that is fine but for the given groups."""
    return Measurement([e for group in groups for e in group], {CANDIDATE: kept}, 72)


GOOD_ROUND = examples(EFFICACY, *[True] * 12, base=False)


def test_a_round_that_learned_and_kept_the_rest_is_promoted() -> None:
    """All slices pass, and each says so in one sentence."""
    decision = judge(
        measured(
            GOOD_ROUND,
            examples(PARAPHRASE, *[True] * 9, *[False] * 3),
            examples(RETENTION, True, True, baseline=True),
            examples(SUPERSEDED, True),
            examples(FLUENCY, True, base=True),
            examples(NEIGHBOR, False, base=True),
        ),
        Thresholds(),
    )

    assert decision.verdict == PROMOTE
    assert 7 == len(decision.slices) == len(decision.reasons)
    efficacy = next(result for result in decision.slices if result.slice == EFFICACY)
    assert dict(efficacy.arms) == {BASE: 0.0, CANDIDATE: 1.0}
    assert efficacy.example_count == 12


@pytest.mark.parametrize(
    ("size", "misses", "verdict"),
    [
        (12, 1, PROMOTE),
        (12, 2, REJECT),
        (3, 1, PROMOTE),
        (2, 1, REJECT),
        (1, 0, PROMOTE),
        (1, 1, REJECT),
    ],
)
def test_at_most_one_lesson_of_the_round_may_be_missed(
    size: int, misses: int, verdict: str
) -> None:
    """And in a tiny round more must be right than wrong."""
    flags = [True] * (size - misses) + [False] * misses

    assert verdict == judge(measured(examples(EFFICACY, *flags)), Thresholds()).verdict


@pytest.mark.parametrize(("right", "verdict"), [(3, PROMOTE), (2, REJECT)])
def test_three_quarters_of_unseen_rewordings_are_needed(right: int, verdict: str) -> None:
    """Exactly three quarters is enough."""
    group = examples(PARAPHRASE, *[True] * right, *[False] * (4 - right))

    assert verdict == judge(measured(GOOD_ROUND, group), Thresholds()).verdict


def test_an_earlier_lesson_that_serves_right_must_not_be_lost() -> None:
    """One that is wrong already today does not count against the candidate."""
    lost = examples(RETENTION, False, baseline=True)
    wrong_anyway = examples(RETENTION, False, baseline=False)

    assert judge(measured(GOOD_ROUND, lost), Thresholds()).verdict == REJECT
    assert judge(measured(GOOD_ROUND, wrong_anyway), Thresholds()).verdict == PROMOTE


def test_without_a_serving_revision_the_base_is_what_could_be_lost() -> None:
    """Retention then compares with the base's answers."""
    assert judge(measured(examples(RETENTION, False, base=True)), Thresholds()).verdict == REJECT
    assert judge(measured(examples(RETENTION, True, base=False)), Thresholds()).verdict == PROMOTE


@pytest.mark.parametrize(("kept", "verdict"), [(0.70, PROMOTE), (0.69, REJECT)])
def test_seven_tenths_of_the_bases_tokens_must_stay(kept: float, verdict: str) -> None:
    """Measured with the adapter always on, by one scored pass, and labelled so."""
    decision = judge(measured(GOOD_ROUND, kept=kept), Thresholds())
    unrelated = next(result for result in decision.slices if result.slice == UNRELATED)

    assert verdict == decision.verdict
    assert "one scored pass" in unrelated.explanation


def test_an_outdated_answer_still_said_rejects() -> None:
    """Not even one."""
    group = examples(SUPERSEDED, True, False)

    assert judge(measured(GOOD_ROUND, group), Thresholds()).verdict == REJECT


def test_only_answers_that_the_adapter_broke_count_against_fluency() -> None:
    """The base's own repetitions are not the candidate's fault."""
    broken = examples(FLUENCY, False, *[True] * 9, base=True)
    broken_before = examples(FLUENCY, False, *[True] * 9, base=False)

    assert judge(measured(GOOD_ROUND, broken), Thresholds()).verdict == REJECT
    assert judge(measured(GOOD_ROUND, broken_before), Thresholds()).verdict == PROMOTE


def test_nothing_asked_is_no_promotion() -> None:
    """Too little to judge is an abstention, which promotes nothing."""
    decision = judge(Measurement([]), Thresholds())

    assert decision.verdict == ABSTAIN
    assert decision.reasons


def test_the_failed_slice_comes_first_with_its_reason() -> None:
    """Operators read the cause before anything else; passing slices give no reason for a no."""
    decision = judge(measured(GOOD_ROUND, examples(SUPERSEDED, False, baseline=True)), Thresholds())

    assert decision.slices[0].slice == SUPERSEDED
    assert len(decision.reasons) == 1
    assert "outdated" in decision.reasons[0]


def test_thresholds_come_from_the_job_and_typos_are_refused() -> None:
    """Absent ones take the default."""
    assert Thresholds.from_mapping({"min_paraphrase": 0.5}).min_paraphrase == 0.5
    assert Thresholds() == Thresholds.from_mapping({"min_paraphrase": None})
    with pytest.raises(ValueError, match="min_paraphras"):
        Thresholds.from_mapping({"min_paraphras": 0.5})


def test_slices_read_as_the_contract_spells_them() -> None:
    """Plain data: names of enum values, arms as a list."""
    plain = judge(measured(GOOD_ROUND), Thresholds()).slices[0].to_mapping()

    assert {"slice", "verdict", "threshold", "arms", "example_count", "explanation"} == set(plain)
    assert plain["arms"] == [{"arm": BASE, "value": 0.0}, {"arm": CANDIDATE, "value": 1.0}]
    assert BASELINE not in str(plain["arms"])
