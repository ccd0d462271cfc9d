"""The fold of lessons: which steps apply, what they write down, and what an adapter learns from."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selm.lesson_fold import MAX_TRANSITIONS, LessonFold, advance, received
from selm.lessons import FINAL, Consent, LessonRecord, LessonState, LessonStep, live_lessons
from tests.unit.lesson_records import START, numbered

R1 = "adapters/default/revisions/r0000000000000001"
R2 = "adapters/default/revisions/r0000000000000002"
S = LessonState


def lesson(number: int = 1, **changes) -> LessonRecord:
    return received(numbered(number, **{"answer": f"It is {number}.", **changes}))


def step(state: LessonState, resource: str = "", service: str = "trainer_svc", reason: str = ""):
    return LessonStep(state, service, resource, reason, START + timedelta(seconds=1))


REMEMBERED = step(S.REMEMBERED, "users/ada/memories/m1", "memory_svc")
QUEUED = step(S.QUEUED, "trainingRequests/q1", "feedback_svc")
STRAIGHT = [REMEMBERED, QUEUED, step(S.TRAINED, R1), step(S.VERIFIED, R1), step(S.RETIRED)]


def after(*steps: LessonStep) -> LessonRecord:
    record = lesson()
    for one in steps:
        record = advance(record, one)
    return record


def test_the_straight_way_ends_retired_and_names_everything_on_it():
    """Each step leaves its resource in the field where it belongs."""
    record = after(*STRAIGHT)
    assert record.state is S.RETIRED
    assert record.memory == "users/ada/memories/m1"
    assert record.training_request == "trainingRequests/q1"
    assert record.adapter_revision == R1
    assert [t.state for t in record.transitions] == [S.RECEIVED, *(s.state for s in STRAIGHT)]


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ([], step(S.VERIFIED, R1)),
        ([], step(S.RETIRED)),
        ([REMEMBERED], step(S.VERIFIED, R1)),
        ([REMEMBERED, QUEUED], step(S.RETIRED)),
        (STRAIGHT, QUEUED),
        (STRAIGHT, step(S.TRAINED, R2)),
        ([REMEMBERED], step(S.RECEIVED)),
    ],
)
def test_a_step_the_state_does_not_allow_is_ignored(before, wrong):
    """The record stays the very same object."""
    record = after(*before)
    assert advance(record, wrong) is record


@pytest.mark.parametrize("num_steps", [3, 4, 5])
def test_a_rollback_takes_a_trained_lesson_back_to_memory(num_steps):
    """Out of the weights again, with the reason, and it can be trained anew."""
    back = step(S.REMEMBERED, R2, reason="rolled back")
    record = advance(after(*STRAIGHT[:num_steps]), back)
    assert (record.state, record.adapter_revision) == (S.REMEMBERED, "")
    assert record.failure == "rolled back"
    assert record.memory == "users/ada/memories/m1"
    again = advance(record, step(S.TRAINED, R2))
    assert (again.state, again.adapter_revision, again.failure) == (S.TRAINED, R2, "")


def test_a_job_that_publishes_nothing_gives_its_lessons_back():
    """QUEUED goes back to REMEMBERED and says why."""
    back = step(S.REMEMBERED, "trainingJobs/j1", reason="GATE_FAILED: forgot too much")
    record = advance(after(REMEMBERED, QUEUED), back)
    assert (record.state, record.training_job) == (S.REMEMBERED, "trainingJobs/j1")
    assert record.failure.startswith("GATE_FAILED")


def test_a_late_copy_of_an_old_request_does_not_queue_a_lesson_again():
    """A request covers a lesson once; another request may cover it again."""
    given_back = advance(after(REMEMBERED, QUEUED), step(S.REMEMBERED, "trainingJobs/j1"))
    assert advance(given_back, QUEUED) is given_back
    other = step(S.QUEUED, "trainingRequests/q2", "feedback_svc")
    assert advance(given_back, other).training_request == "trainingRequests/q2"


def test_memory_that_comes_late_is_noted_and_is_no_step_back():
    """Training may begin before memory has written a lesson down."""
    record = advance(after(QUEUED, step(S.TRAINED, R1)), REMEMBERED)
    assert (record.state, record.memory) == (S.TRAINED, "users/ada/memories/m1")


def test_memory_that_speaks_twice_changes_nothing():
    """A consumer may handle an event again; a learned lesson must not fall back for it."""
    record = after(*STRAIGHT)
    assert advance(record, REMEMBERED) is record


def test_a_later_revision_that_proves_a_retired_lesson_is_named_by_it():
    """The state stays, the proof is renewed."""
    record = advance(after(*STRAIGHT), step(S.VERIFIED, R2))
    assert (record.state, record.adapter_revision) == (S.RETIRED, R2)


def test_a_superseded_lesson_names_what_replaced_it_and_is_final():
    """Nothing moves it any more."""
    record = after(REMEMBERED, step(S.SUPERSEDED, "lessons/l2", "memory_svc"))
    assert (record.superseded_by, record.is_settled) == ("lessons/l2", True)
    assert advance(record, QUEUED) is record


def test_transitions_are_bounded_and_the_first_is_kept():
    """A lesson that is trained over and over does not grow without end."""
    record = after(REMEMBERED)
    for number in range(MAX_TRANSITIONS):
        record = advance(record, step(S.QUEUED, f"trainingRequests/q{number}", "feedback_svc"))
        record = advance(record, step(S.REMEMBERED, f"trainingJobs/j{number}"))
    assert len(record.transitions) == MAX_TRANSITIONS
    assert record.transitions[0].state is S.RECEIVED
    assert record.transitions[-1].resource == f"trainingJobs/j{MAX_TRANSITIONS - 1}"


@given(st.permutations([0, 1, 2, 3, 4, 5]), st.data())
def test_the_order_between_the_two_streams_does_not_matter(order, data):
    """Whatever is read first, the same steps give the same lesson."""
    # 0 is the lesson's own event; the steps keep their order among themselves.
    place = order.index(0)
    fold = LessonFold()
    for one in STRAIGHT[:place]:
        fold.step("default", "lessons/l1", one)
    fold.receive(lesson())
    for one in STRAIGHT[place:]:
        fold.step("default", "lessons/l1", one)
    assert fold.get("default", "lessons/l1") == after(*STRAIGHT)


@given(st.lists(st.sampled_from([*STRAIGHT, step(S.FAILED), step(S.SUPERSEDED, "lessons/l9")])))
def test_a_final_state_is_never_left(steps):
    """No sequence of steps leads out of SUPERSEDED or FAILED."""
    record, final = lesson(), None
    for one in steps:
        record = advance(record, one)
        final = final or (record.state if record.state in FINAL else None)
        assert final in (None, record.state)


def test_an_event_that_is_read_twice_is_one_lesson():
    """The second copy changes nothing, not even after further steps."""
    fold = LessonFold()
    assert fold.receive(lesson()) is not None
    fold.step("default", "lessons/l1", REMEMBERED)
    assert fold.receive(lesson()) is None
    assert fold.get("default", "lessons/l1").state is S.REMEMBERED


def test_tenants_do_not_share_lessons():
    """The same name in another tenant is another lesson."""
    fold = LessonFold()
    fold.receive(lesson())
    assert fold.get("other", "lessons/l1") is None
    assert fold.step("other", "lessons/l1", REMEMBERED) is None
    assert fold.records("other") == []


def test_only_the_newest_living_lesson_of_a_key_is_learned():
    """Superseded by event or by age, an old answer never trains again."""
    old, new = lesson(1), lesson(2)
    assert live_lessons([new, old], "adapters/default") == [new]
    failed = advance(new, step(S.FAILED))
    assert live_lessons([old, failed], "adapters/default") == [old]


def test_live_lessons_are_those_of_the_adapter_with_consent_by_age():
    """Other adapters and lessons for memory alone are left out."""
    wanted = [lesson(number, subject_key=f"key {number}") for number in (3, 1, 2)]
    others = [
        lesson(4, subject_key="a", adapter="adapters/other"),
        lesson(5, subject_key="b", adapter="", consent=Consent.MEMORY_ONLY),
        lesson(6, subject_key="c", consent=Consent.PRIVATE_ADAPTER),
    ]
    found = live_lessons([*wanted, *others], "adapters/default")
    assert [record.sequence for record in found] == [1, 2, 3]


def test_a_retired_lesson_is_still_live():
    """What the weights carry has to be kept in them."""
    assert live_lessons([after(*STRAIGHT)], "adapters/default")


@pytest.mark.parametrize("num_steps", range(len(STRAIGHT) + 1))
def test_a_lesson_whose_memory_was_deleted_fails_in_any_state_and_trains_no_more(num_steps):
    """Also out of the weights, and nothing the trainer says later brings it back."""
    deleted = step(S.FAILED, "users/ada/memories/m1", "memory_svc", "its memory was deleted")
    record = advance(after(*STRAIGHT[:num_steps]), deleted)
    assert (record.state, record.failure) == (S.FAILED, "its memory was deleted")
    assert live_lessons([record], "adapters/default") == []
    assert advance(record, step(S.TRAINED, R2)) is record
