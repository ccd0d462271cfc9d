"""What a job learns from, and where it starts: the same lessons always give the same dataset."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from selm.errors import SelmError
from selm.lessons import Consent, LessonRecord, LessonState
from tests.unit.lesson_records import numbered
from trainer_svc.core import Artifact, LoraShape, Manifest, Revision, RevisionState
from trainer_svc.jobs import JobState, OutdatedAnswer, Start, TrainingJob
from trainer_svc.training.dataset import FreezePolicy, Serving, freeze, over_share

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
JOB = TrainingJob("default", "j1", "default", "q1", JobState.PREPARING, NOON, NOON)
POLICY = FreezePolicy(consolidate_below=4, base_sha256="c")


def lesson(
    number: int, state: LessonState = LessonState.REMEMBERED, **more: object
) -> LessonRecord:
    record = numbered(
        number,
        question=f"What is {number}?",
        answer=f"answer {number}",
        subject_key=f"key {number}",
        create_time=NOON + timedelta(seconds=number),
        state=state,
    )
    return replace(record, **more)


def serving(*numbers: int, base_sha256: str = "c") -> Serving:
    manifest = Manifest(
        "a",
        "b",
        "models/tiny",
        base_sha256,
        LoraShape(),
        "d",
        "e",
        "f",
        1,
        NOON,
        "j",
        "v",
        "sft",
        True,
    )
    artifact = Artifact("nats://artifacts/x", "x", 1)
    revision = Revision(
        "default", "default", "r1", RevisionState.ACCEPTED, "11", "", manifest, artifact, NOON
    )
    return Serving(revision, frozenset(f"l{number}" for number in numbers))


def test_the_same_lessons_have_the_same_digest_in_any_order() -> None:
    """Order of reading does not matter, content does."""
    records = [lesson(1), lesson(2)]
    first, second = (freeze(JOB, order, None, POLICY) for order in (records, records[::-1]))
    third = freeze(JOB, [lesson(1), lesson(2, answer="other")], None, POLICY)

    assert first.sha256 == second.sha256 != third.sha256
    assert [item.lesson_id for item in first.lessons] == ["l1", "l2"]
    assert first.newest_lesson_time == NOON + timedelta(seconds=2)


def test_only_live_lessons_of_the_adapter_with_consent_are_in_it() -> None:
    """Superseded, failed, foreign and private ones stay out."""
    records = [
        lesson(1),
        lesson(2, LessonState.SUPERSEDED),
        lesson(3, LessonState.FAILED),
        lesson(4, adapter="adapters/other"),
        lesson(5, adapter="", consent=Consent.MEMORY_ONLY),
    ]

    assert [item.lesson_id for item in freeze(JOB, records, None, POLICY).lessons] == ["l1"]


def test_the_latest_of_one_key_wins_and_the_older_answer_must_not_be_said() -> None:
    """Also before memory has said that it is superseded."""
    records = [lesson(1), lesson(2, subject_key="key 1", question="What is 1?")]
    dataset = freeze(JOB, records, None, POLICY)

    assert [item.answer for item in dataset.lessons] == ["answer 2"]
    assert dataset.superseded == (OutdatedAnswer("What is 1?", "answer 1"),)


@pytest.mark.parametrize(
    ("served", "job", "num_lessons", "start", "reason"),
    [
        (None, JOB, 9, Start.BASE, "no revision serves yet"),
        (serving(1), JOB, 3, Start.BASE, "3 live lessons, at most 4"),
        (serving(1), replace(JOB, from_base=True), 9, Start.BASE, "the request asked"),
        (serving(1, base_sha256="x"), JOB, 9, Start.BASE, "another base model"),
        (serving(1), JOB, 9, Start.SERVING, "9 live lessons, more than 4"),
    ],
)
def test_where_training_starts_is_said_in_words(served, job, num_lessons, start, reason) -> None:
    """From the base while that is cheap or needed, else from what serves."""
    records = [lesson(number) for number in range(1, num_lessons + 1)]
    dataset = freeze(job, records, served, POLICY)

    assert dataset.start is start
    assert reason in dataset.start_reason
    assert dataset.parent_revision_id == ("r1" if start is Start.SERVING else "")
    assert dataset.baseline_revision_id == ("r1" if served else "")


def test_continuing_replays_at_least_as_many_old_lessons_as_there_are_new() -> None:
    """The draw is fixed; what is not drawn is still asked by the gate."""
    old = [lesson(number, LessonState.RETIRED) for number in range(1, 41)]
    new = [lesson(number, LessonState.QUEUED) for number in range(41, 53)]
    served = serving(*range(1, 41))
    first, second = (freeze(JOB, [*old, *new], served, POLICY) for _ in range(2))

    assert first == replace(second, create_time=first.create_time)
    assert len(first.lessons) == 52
    assert sum(item.is_new for item in first.lessons) == 12
    assert sum(item.is_trained for item in first.lessons) == 24
    assert all(item.is_trained for item in first.lessons if item.is_new)


def test_nothing_new_is_nothing_to_train() -> None:
    """Unless training from the base was asked for, or the weights hold what is outdated."""
    records = [lesson(1, LessonState.VERIFIED)]
    with pytest.raises(SelmError) as error:
        freeze(JOB, records, serving(1), POLICY)

    assert error.value.reason == "DATASET_EMPTY"
    assert freeze(replace(JOB, from_base=True), records, serving(1), POLICY).lessons
    assert freeze(JOB, records, serving(1, 2), POLICY).lessons


def test_no_lesson_at_all_is_an_empty_dataset() -> None:
    """DATASET_EMPTY names the dataset that was not made."""
    with pytest.raises(SelmError) as error:
        freeze(JOB, [], None, POLICY)

    assert error.value.metadata["dataset"] == "datasets/j1"


def test_a_lesson_too_long_to_be_learned_stays_out_unless_the_weights_hold_it() -> None:
    """Nothing else left is DATASET_EMPTY, which says how many were left out."""
    long, held = lesson(1, answer="7" * 300), lesson(2, answer="8" * 300)
    dataset = freeze(JOB, [long, held, lesson(3)], serving(2), POLICY)
    with pytest.raises(SelmError) as error:
        freeze(JOB, [long], None, POLICY)

    assert [item.lesson_id for item in dataset.lessons] == ["l2", "l3"]
    assert error.value.metadata["excluded"] == "1"


def test_one_author_of_ten_thousand_lessons_fills_no_more_than_its_share() -> None:
    """T-23: a flood from one principal buys nothing beyond the cap, and of it the oldest stay."""
    flood = [lesson(number, author="mallory") for number in range(1, 10_001)]
    others = [lesson(20_000 + number, author=f"author {number}") for number in range(57)]
    job = replace(JOB, max_author_share=0.05)
    dataset = freeze(job, [*flood, *others], None, POLICY)
    held = {item.lesson_id for item in dataset.lessons}
    from_one = held & {f"l{number}" for number in range(1, 10_001)}
    assert from_one == {"l1", "l2", "l3"}
    assert len(from_one) <= 0.05 * len(held)
    assert len(held) == 60
    left_out = over_share(job, [*flood, *others], None, POLICY)
    assert {record.author for record in left_out} == {"mallory"}
    assert len(left_out) == 10_000 - 3
    # Whoever made it flood again with what the weights hold already keeps that first.
    again = freeze(job, [*flood, *others], serving(5), POLICY)
    assert {"l5", "l1", "l2"} <= {item.lesson_id for item in again.lessons}


def test_without_a_limit_one_author_may_teach_everything() -> None:
    """A private adapter learns from its owner alone."""
    records = [lesson(number, author="owner") for number in range(1, 31)]
    assert len(freeze(JOB, records, None, POLICY).lessons) == 30
    with pytest.raises(SelmError) as caught:
        freeze(replace(JOB, max_author_share=0.5), records, None, POLICY)
    assert (caught.value.reason, caught.value.metadata["excluded"]) == ("DATASET_EMPTY", "30")
