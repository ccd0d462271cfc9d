"""What feedback_svc answers, from core."""

from dataclasses import replace
from datetime import UTC, datetime

from feedback_svc import core, learning
from feedback_svc.events import Codec
from feedback_svc.render import render_event, render_lesson, render_request, render_stats
from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.delivery import Delivery
from selm.lessons import Consent, LessonState, LessonStep, advance, received

TIME = datetime(2030, 1, 1, tzinfo=UTC)
RECORD = core.FeedbackRecord(
    tenant="t",
    name="feedbackEvents/e1",
    generation="generations/g1",
    signal=core.Correction("Lutz", "Capital?", ("Town?",)),
    user="users/ada",
    adapter="adapters/default",
    consent=Consent.SHARED_ADAPTER,
    labels={"app": "x"},
    author="anonymous",
    adapter_revision="",
    lesson="lessons/l1",
    event_time=TIME,
    create_time=TIME,
    sequence=7,
)


def _through_the_bus(record):
    """Encoded as published, decoded as replayed."""
    message = Codec().feedback_created(record, core.Exchange(b"", "Capital?", "Nebelsbad"))
    payload = message.SerializeToString()
    delivery = Delivery("selm.feedback.created.t.abc", record.sequence, "", payload, record.name)
    return Codec().feedback(delivery)


def test_every_signal_survives_the_bus():
    """What is replayed equals what was acknowledged."""
    for signal in (RECORD.signal, core.Thumbs.UP, core.Rating(3.5, 7)):
        record = replace(RECORD, signal=signal)
        assert _through_the_bus(record)[0] == record


def test_an_event_does_not_repeat_the_exchange():
    """That is kept for those who learn from it."""
    event = render_event(RECORD)
    assert not event.HasField("exchange")
    assert (event.kind, event.sequence) == (pb.FEEDBACK_KIND_CORRECTION, 7)


def test_a_lesson_given_back_says_why_in_a_published_reason():
    """The step's words may begin with one."""
    lesson = received(_through_the_bus(RECORD)[1])
    for state, reason in (
        (LessonState.QUEUED, ""),
        (LessonState.REMEMBERED, "GATE_FAILED: forgot 2"),
    ):
        lesson = advance(lesson, LessonStep(state, "trainer_svc", "trainingJobs/j", reason, TIME))
    failure = render_lesson(lesson, None).failure
    assert failure.reason == ErrorReason.ERROR_REASON_GATE_FAILED
    assert (failure.message, failure.retryable) == ("forgot 2", True)


def test_words_without_a_reason_are_kept_whole():
    """A colon alone makes no reason."""
    lesson = replace(received(_through_the_bus(RECORD)[1]), failure="rollback: by ada")
    failure = render_lesson(lesson, None).failure
    assert failure.reason == ErrorReason.ERROR_REASON_UNSPECIFIED
    assert failure.message == "rollback: by ada"


def test_a_request_shows_its_job_and_failure():
    """Whoever asks for a request learns how it ended."""
    request = learning.TrainingRequest(
        tenant="t",
        request_id="q1",
        adapter="adapters/default",
        trigger=learning.Trigger.COUNT,
        requester="policy",
        lessons=("lessons/l1", "lessons/l2"),
        create_time=TIME,
    )
    failure = learning.Failure("ATTEMPTS_EXHAUSTED", "gave up", {"attempts": "3"})
    view = learning.RequestView(request, learning.RequestState.FAILED, TIME, None, failure)
    shown = render_request(view)
    assert shown.state == TrainingRequest.STATE_FAILED
    assert (shown.name, shown.lesson_count) == ("trainingRequests/q1", 2)
    assert shown.failure.metadata == {"attempts": "3"}


def test_queue_numbers_are_shown_per_adapter():
    """Ages are durations."""
    numbers = learning.QueueNumbers("adapters/a", core.Kind.CORRECTION, 3, oldest_age_s=1.5)
    [stats] = render_stats([numbers], TIME).stats
    assert (stats.waiting_lessons, stats.oldest_age.ToMilliseconds()) == (3, 1500)
