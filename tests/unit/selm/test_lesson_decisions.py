"""Decisions on the event behind a lesson: withheld, let in, turned down, amended, erased."""

from dataclasses import replace
from datetime import timedelta

import pytest

from selm.lesson_fold import LessonFold, received
from selm.lessons import LessonRecord, LessonState, LessonStep, live_lessons
from tests.unit.lesson_records import LESSON, START

ADAPTER = LESSON.adapter
S = LessonState


def news(state: LessonState = S.RECEIVED, num_decisions: int = 0, **changes) -> LessonRecord:
    """A lesson as its event tells it after so many decisions."""
    told = replace(
        LESSON,
        paraphrases=("Which thing is it?",),
        update_time=START + timedelta(seconds=num_decisions),
        state=state,
        num_decisions=num_decisions,
    )
    return replace(told, **changes)


def fold_of(*told: LessonRecord) -> LessonFold:
    fold = LessonFold()
    for record in told:
        fold.receive(record)
    return fold


def lesson_in(fold: LessonFold) -> LessonRecord:
    lesson = fold.get("default", "lessons/l1")
    assert lesson is not None
    return lesson


def remembered(fold: LessonFold) -> None:
    step = LessonStep(S.REMEMBERED, "memory_svc", "users/ada/memories/m", "", START)
    fold.step("default", "lessons/l1", step)


def states_of(lesson: LessonRecord) -> list[LessonState]:
    return [step.state for step in lesson.transitions]


def test_a_withheld_lesson_says_so_and_why():
    lesson = received(news(S.QUARANTINED, failure="QUARANTINED: looks like a secret"))
    assert lesson.state is S.QUARANTINED
    assert lesson.failure == "QUARANTINED: looks like a secret"
    assert states_of(lesson) == [S.RECEIVED, S.QUARANTINED]
    assert not lesson.is_settled


def test_a_withheld_lesson_is_not_learned_and_displaces_nothing():
    older = received(news(name="lessons/l0", sequence=0))
    withheld = received(news(S.QUARANTINED))
    assert live_lessons([older, withheld], ADAPTER) == [older]


def test_an_approved_lesson_goes_on_from_received():
    fold = fold_of(news(S.QUARANTINED), news(S.RECEIVED, 1, failure="let in by rita"))
    remembered(fold)
    lesson = lesson_in(fold)
    assert states_of(lesson) == [S.RECEIVED, S.QUARANTINED, S.RECEIVED, S.REMEMBERED]
    assert lesson.transitions[2].reason == "let in by rita"
    assert lesson.failure == ""


def test_a_rejected_lesson_ends_there():
    fold = fold_of(news(S.QUARANTINED), news(S.REJECTED, 1, failure="REVIEW_REJECTED: wrong"))
    remembered(fold)
    lesson = lesson_in(fold)
    assert lesson.state is S.REJECTED
    assert lesson.failure == "REVIEW_REJECTED: wrong"
    assert lesson.is_settled
    assert live_lessons([lesson], ADAPTER) == []


def test_an_amended_lesson_says_what_the_reviewer_wrote():
    fold = fold_of(news(S.QUARANTINED), news(S.RECEIVED, 1, answer="A lantern."))
    assert lesson_in(fold).answer == "A lantern."


@pytest.mark.parametrize("num_steps", [0, 1])
def test_a_lesson_that_reaches_further_keeps_its_state(num_steps):
    fold = fold_of(news(adapter=""))
    if num_steps:
        remembered(fold)
    before = lesson_in(fold)
    assert not before.may_train
    fold.receive(news(S.RECEIVED, 1, adapter=ADAPTER))
    after = lesson_in(fold)
    assert after.may_train
    assert (after.state, after.transitions) == (before.state, before.transitions)


def test_a_decision_read_twice_or_late_changes_nothing():
    decisions = [news(S.QUARANTINED), news(S.RECEIVED, 1), news(S.RECEIVED, 1), news(S.QUARANTINED)]
    fold = fold_of(*decisions)
    assert lesson_in(fold) == lesson_in(fold_of(*decisions[:2]))


def test_a_replica_that_reads_the_decision_alone_knows_the_lesson():
    lesson = lesson_in(fold_of(news(S.RECEIVED, 1, answer="A lantern.")))
    assert (lesson.state, lesson.answer) == (S.RECEIVED, "A lantern.")


def test_an_erased_lesson_says_nothing_and_stays_erased():
    fold = fold_of(news())
    fold.erase(news(), START)
    remembered(fold)
    fold.receive(news(S.RECEIVED, 1))
    lesson = lesson_in(fold)
    assert lesson.state is S.ERASED
    said = (lesson.question, lesson.answer, lesson.paraphrases, lesson.user)
    assert said == ("", "", (), "")
    assert live_lessons([lesson], ADAPTER) == []


def test_a_lesson_purged_before_the_start_is_known_as_erased():
    fold = LessonFold()
    fold.erase(news(question="", answer=""), START)
    assert lesson_in(fold).state is S.ERASED


def test_steps_read_before_the_decision_that_allowed_them_are_not_lost():
    """Lessons and steps travel in two streams, and a restart may read the steps first."""
    order = [S.REMEMBERED, S.QUEUED, S.TRAINED]
    steps = [
        LessonStep(S.REMEMBERED, "memory_svc", "users/ada/memories/m", "", START),
        LessonStep(S.QUEUED, "feedback_svc", "trainingRequests/t", "", START),
        LessonStep(S.TRAINED, "trainer_svc", "adapters/default/revisions/r1", "", START),
    ]
    fold = fold_of(news(S.QUARANTINED))
    for step in steps:
        fold.step("default", "lessons/l1", step)
    assert lesson_in(fold).state is S.QUARANTINED
    fold.receive(news(S.RECEIVED, 1))
    assert states_of(lesson_in(fold)) == [S.RECEIVED, S.QUARANTINED, S.RECEIVED, *order]
