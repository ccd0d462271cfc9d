"""What feedback_svc answers, from core."""

from dataclasses import replace

import pytest
from google.protobuf import json_format

from feedback_svc import core, learning, signals
from feedback_svc.events import Codec
from feedback_svc.render.batch import render_batch
from feedback_svc.render.events import render_event
from feedback_svc.render.export import render_line
from feedback_svc.render.learning import render_request, render_stats
from feedback_svc.render.lessons import render_lesson
from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.inference.v1.input_pb2 import GenerationInput
from selm.delivery import Delivery
from selm.lesson_fold import advance, received
from selm.lessons import Consent, LessonState, LessonStep
from tests.unit.feedback.records import RECORD, TIME

EDITED = signals.Action.EDITED
EXCHANGE = core.Exchange(b"", "Capital?", "Nebelsbad")
SIGNALS = (
    RECORD.signal,
    signals.Thumbs.UP,
    signals.Rating(3.5, 7),
    signals.Preference("Lutz", "Nebelsbad"),
    signals.Comment("Too long."),
    *(signals.Implicit(action) for action in signals.Action if action is not EDITED),
    signals.Implicit(EDITED, "Lutz."),
)


def _through_the_bus(record, exchange=EXCHANGE):
    """Encoded as published, decoded as replayed."""
    payload = Codec().feedback_created(record, exchange).SerializeToString()
    delivery = Delivery("selm.feedback.created.t.abc", record.sequence, "", payload, record.name)
    return Codec().feedback(delivery)


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal_survives_the_bus(signal):
    """What is replayed equals what was acknowledged."""
    record = replace(RECORD, signal=signal)
    assert _through_the_bus(record)[0] == record


def test_a_conversation_survives_the_bus_without_an_exchange():
    """It is a target like a generation, and has no single answer."""
    record = replace(
        RECORD, generation="", conversation="conversations/c1", signal=signals.Thumbs.DOWN
    )
    assert _through_the_bus(record, None)[0] == record
    assert render_event(record).WhichOneof("target") == "conversation"


def test_what_was_decided_is_shown():
    """State, findings, failure and reach, whatever the signal is."""
    record = replace(
        RECORD,
        state=core.EventState.QUARANTINED,
        findings=(core.Finding("CREDENTIAL", "correction.text", "a key"),),
        num_redactions=2,
        failure=core.Failure("QUARANTINED", "withheld", {"findings": "CREDENTIAL"}, time=TIME),
        reach=Consent.PRIVATE_ADAPTER,
    )
    event = render_event(record)
    assert event.state == pb.FeedbackEvent.STATE_QUARANTINED
    assert event.findings[0].kind == pb.Finding.KIND_CREDENTIAL
    assert (event.redaction_count, event.reach) == (2, pb.CONSENT_PRIVATE_ADAPTER)
    assert event.failure.reason == ErrorReason.ERROR_REASON_QUARANTINED
    assert _through_the_bus(record)[0] == replace(record, was_withheld=True)


def test_a_line_of_an_export_is_one_line_with_the_exchange():
    """Canonical ProtoJSON; no reader of lines finds a break in it."""
    odd = "one\ntwo\u2028three\u0085"
    record = replace(RECORD, signal=signals.Comment(odd))
    asked = GenerationInput(prompt="Capital?").SerializeToString()
    line = render_line(record, core.Exchange(asked, "Capital?", odd))
    assert line.splitlines() == [line]
    event = json_format.Parse(line, pb.FeedbackEvent())
    assert (event.comment.text, event.exchange.answer) == (odd, odd)
    assert event.exchange.input.prompt == "Capital?"
    event.ClearField("exchange")
    assert event == render_event(record)


def test_the_reply_to_a_batch_fits_into_a_message():
    """Its caller has the texts; the names of what is recorded must arrive."""
    small = render_batch({0: RECORD})
    assert small.results[0].feedback_event == render_event(RECORD)
    record = replace(RECORD, signal=signals.Correction("x" * 8192, "y" * 4096))
    reply = render_batch(dict.fromkeys(range(500), record))
    assert reply.ByteSize() < 1024 * 1024
    assert {result.feedback_event.name for result in reply.results} == {record.name}
    assert reply.results[0].feedback_event.lesson == record.lesson


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
