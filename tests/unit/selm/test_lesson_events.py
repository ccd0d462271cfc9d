"""Lessons and steps through their bus messages and back."""

from datetime import UTC, datetime

import pytest

from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated, LessonAdvanced
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.lesson_events import advanced, lesson_id_of, lesson_of, step_of
from selm.lessons import Consent, LessonState, LessonStep


def _created(**fields) -> FeedbackEventCreated:
    event = pb.FeedbackEvent(
        name="feedbackEvents/e1",
        generation="generations/g1",
        user="users/ada",
        adapter="adapters/default",
        consent=pb.CONSENT_SHARED_ADAPTER,
        state=pb.FeedbackEvent.STATE_ACCEPTED,
        lesson="lessons/l1",
        exchange=pb.Exchange(answer="No idea."),
        **fields,
    )
    return FeedbackEventCreated(feedback_event=event)


CORRECTION = pb.Correction(text="Lutz", question="Capital of Zubrowka?", paraphrases=["Capital?"])


def test_a_recorded_correction_is_a_lesson():
    """Question, answer and paraphrases are all there."""
    record = lesson_of("t", 7, _created(correction=CORRECTION))
    assert (record.question, record.answer) == ("Capital of Zubrowka?", "Lutz")
    assert record.paraphrases == ("Capital?",)
    assert (record.tenant, record.sequence) == ("t", 7)
    assert record.subject_key


def test_thumbs_are_no_lesson():
    """Only a correction says what is right."""
    assert lesson_of("t", 1, _created(thumbs=pb.THUMBS_DOWN)) is None


@pytest.mark.parametrize("consent", [pb.CONSENT_MEMORY_ONLY, pb.CONSENT_PRIVATE_ADAPTER])
def test_without_consent_no_adapter_learns_it(consent):
    """The lesson exists for memory alone."""
    message = _created(correction=CORRECTION)
    message.feedback_event.consent = consent
    record = lesson_of("t", 1, message)
    assert (record.adapter, record.may_train) == ("", False)


def test_missing_consent_is_read_as_the_narrowest():
    """A message of an older writer never trains by accident."""
    message = _created(correction=CORRECTION)
    message.feedback_event.consent = pb.CONSENT_UNSPECIFIED
    assert lesson_of("t", 1, message).consent is Consent.MEMORY_ONLY


def test_a_step_survives_its_message():
    """What one service announces is what another folds."""
    time = datetime(2030, 1, 1, tzinfo=UTC)
    step = LessonStep(LessonState.TRAINED, "trainer_svc", "adapters/a/revisions/r1", "why", time)
    assert step_of(advanced("lessons/l1", "feedbackEvents/e1", step)) == step


def test_a_step_of_a_newer_writer_is_skipped():
    """States that this version does not know are no error."""
    message = LessonAdvanced(lesson="lessons/l1")
    message.transition.state = 99
    assert step_of(message) is None


def test_the_id_of_a_lesson_is_taken_from_its_name():
    """Anything else is a programming error."""
    assert lesson_id_of("lessons/abc") == "abc"
    with pytest.raises(ValueError, match="not a lesson name"):
        lesson_id_of("memories/abc")
