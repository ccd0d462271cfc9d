"""When an adapter learns by itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_svc.learning import TrainingPolicy, Trigger
from feedback_svc.training.rules import Situation, author_share, decide, is_fresh, waiting
from selm.lesson_fold import advance, received
from selm.lessons import LessonRecord, LessonState, LessonStep
from tests.unit.lesson_records import numbered

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SETTINGS = TrainingPolicy(min_lessons=8, idle_s=60, debounce_s=5, cooldown_s=30)
S = LessonState


def lesson(number: int, age_s: float = 10, *steps: tuple[LessonState, str]) -> LessonRecord:
    """Remembered `age_s` ago, then taken through further steps."""
    time = NOW - timedelta(seconds=age_s)
    record = received(
        numbered(number, subject_key=f"key {number}", create_time=time, update_time=time)
    )
    for state, resource in ((S.REMEMBERED, "users/ada/memories/m"), *steps):
        record = advance(record, LessonStep(state, "x", resource, "", time))
    return record


def fresh(count: int, age_s: float = 10) -> tuple[LessonRecord, ...]:
    return tuple(lesson(number, age_s) for number in range(count))


def returned(number: int, age_s: float = 1000) -> LessonRecord:
    return lesson(number, age_s, (S.QUEUED, "trainingRequests/q"), (S.REMEMBERED, "trainingJobs/j"))


@pytest.mark.parametrize(
    ("count", "age_s", "expected"),
    [
        (8, 5, Trigger.COUNT),
        (8, 4.9, None),
        (7, 59, None),
        (7, 60, Trigger.AGE),
        (1, 61, Trigger.AGE),
        (0, 0, None),
    ],
)
def test_count_and_quiet_time_decide(count, age_s, expected):
    """Enough lessons after a short pause, or any after a long one."""
    assert decide(SETTINGS, Situation(fresh(count, age_s)), NOW) is expected


def test_a_stream_of_lessons_without_a_pause_does_not_put_learning_off():
    """The debounce is bounded by the idle time of the oldest."""
    busy = (*fresh(8, 61), lesson(9, 1))
    assert decide(SETTINGS, Situation(busy), NOW) is Trigger.COUNT


def test_what_a_job_gave_back_never_triggers_by_itself():
    """However many and however old: there is no hot loop of failing rounds."""
    lessons = tuple(returned(number) for number in range(20))
    assert decide(SETTINGS, Situation(lessons), NOW) is None
    assert decide(SETTINGS, Situation((*lessons, lesson(99, 61))), NOW) is Trigger.AGE


def test_what_a_rollback_gave_back_never_triggers_by_itself():
    """An operator's decision is not undone by the policy."""
    rolled_back = lesson(
        1, 1000, (S.TRAINED, "adapters/a/revisions/r"), (S.REMEMBERED, "adapters/a/revisions/q")
    )
    assert rolled_back.state is S.REMEMBERED
    assert not is_fresh(rolled_back)


def test_paused_waiting_and_cooling_down_start_nothing():
    """Each alone is enough to hold a request back."""
    lessons = fresh(8)
    assert decide(replace(SETTINGS, paused=True), Situation(lessons), NOW) is None
    assert decide(SETTINGS, Situation(lessons, has_waiting_request=True), NOW) is None
    just_now = NOW - timedelta(seconds=29)
    assert decide(SETTINGS, Situation(lessons, last_request_time=just_now), NOW) is None
    earlier = NOW - timedelta(seconds=30)
    assert decide(SETTINGS, Situation(lessons, last_request_time=earlier), NOW) is Trigger.COUNT


def test_a_schedule_trains_whatever_waits_also_what_was_given_back():
    """Few are enough, and no pause is needed; nothing waiting is nothing to do."""
    due = Situation((lesson(1, 0), returned(2)), is_due=True)
    assert decide(SETTINGS, due, NOW) is Trigger.SCHEDULE
    assert decide(SETTINGS, Situation((returned(2),), is_due=True), NOW) is Trigger.SCHEDULE
    assert decide(SETTINGS, Situation((), is_due=True), NOW) is None
    for held in (
        replace(due, has_waiting_request=True),
        replace(due, last_request_time=NOW - timedelta(seconds=29)),
    ):
        assert decide(SETTINGS, held, NOW) is None
    assert decide(replace(SETTINGS, paused=True), due, NOW) is None


def test_without_an_idle_time_only_the_count_decides():
    """0 s is off; a stream of lessons without a pause is put off for twelve debounces at most."""
    settings = replace(SETTINGS, idle_s=0)
    assert decide(settings, Situation(fresh(7, 10_000)), NOW) is None
    assert decide(settings, Situation(fresh(8, 5)), NOW) is Trigger.COUNT
    assert decide(settings, Situation((*fresh(8, 59), lesson(9, 1))), NOW) is None
    assert decide(settings, Situation((*fresh(8, 60), lesson(9, 1))), NOW) is Trigger.COUNT


def test_the_share_of_an_author_is_capped_by_itself_once_there_are_many():
    """What the policy says comes first; a private adapter has one author and no limit."""
    many = [f"author {number}" for number in range(20)]
    assert author_share(SETTINGS, ["owner"] * 99) == 0
    assert author_share(SETTINGS, many[:19] * 2) == 0
    assert author_share(SETTINGS, many) == 0.05
    assert author_share(replace(SETTINGS, max_author_share=0.3), many) == 0.3


def test_a_clock_that_runs_ahead_counts_as_now():
    """Stamps of another machine may lie in the future; that only delays."""
    assert decide(SETTINGS, Situation(fresh(8, -100)), NOW) is None


def test_a_request_covers_received_and_remembered_lessons_by_age():
    """Queued and trained ones are on their way already."""
    queued = lesson(1, 10, (S.QUEUED, "trainingRequests/q"))
    trained = lesson(2, 10, (S.TRAINED, "adapters/a/revisions/r"))
    covered = waiting([lesson(5), queued, returned(4), trained, lesson(3)])
    assert [record.sequence for record in covered] == [3, 4, 5]


@given(
    st.lists(st.floats(-100, 10_000), max_size=20),
    st.booleans(),
    st.one_of(st.none(), st.floats(-100, 1000)),
)
def test_a_request_is_only_made_when_something_fresh_waits(ages, is_waiting, request_age):
    """Whatever the times are."""
    last = None if request_age is None else NOW - timedelta(seconds=request_age)
    lessons = tuple(lesson(number, age) for number, age in enumerate(ages))
    trigger = decide(SETTINGS, Situation(lessons, is_waiting, last), NOW)
    if trigger is not None:
        assert lessons and not is_waiting
        assert last is None or request_age >= 30
    if trigger is Trigger.COUNT:
        assert len(lessons) >= 8
