"""Lessons read from and written to bus messages: protobuf on one side, selm.lessons on the other.

Shared by feedback_svc and trainer_svc, so that both fold the same streams to the same lessons.
"""

from datetime import UTC, datetime
from typing import Any

from selm import names
from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated, LessonAdvanced
from selm.api.feedback.v1.feedback_event_pb2 import FeedbackEvent
from selm.api.feedback.v1.lesson_pb2 import Lesson, LessonTransition
from selm.lessons import Consent, LessonRecord, LessonState, LessonStep
from selm.questions import subject_key

_STATES = {
    FeedbackEvent.STATE_ACCEPTED: LessonState.RECEIVED,
    FeedbackEvent.STATE_QUARANTINED: LessonState.QUARANTINED,
    FeedbackEvent.STATE_IN_REVIEW: LessonState.QUARANTINED,
    FeedbackEvent.STATE_REJECTED: LessonState.REJECTED,
}


def lesson_of(tenant: str, sequence: int, message: FeedbackEventCreated) -> LessonRecord | None:
    """The lesson of a recorded or decided event as of then; None if it is no correction.

    `sequence` is where the message was read. A decided event keeps the place of its first message,
    so that what was approved late is no newer than what was said since.
    """
    event = message.feedback_event
    state = _STATES.get(event.state)
    if event.WhichOneof("signal") != "correction" or state is None:
        return None
    consent = Consent(event.consent or Consent.MEMORY_ONLY)
    reach = Consent(event.reach or consent)
    create_time = datetime_of(event.create_time)
    return LessonRecord(
        tenant=tenant,
        name=event.lesson,
        feedback_event=event.name,
        sequence=event.sequence or sequence,
        generation=event.generation,
        user=event.user,
        author=event.author,
        adapter=event.adapter if reach >= Consent.SHARED_ADAPTER else "",
        consent=consent,
        question=event.correction.question,
        answer=event.correction.text,
        paraphrases=tuple(event.correction.paraphrases),
        subject_key=subject_key(event.correction.question),
        create_time=create_time,
        update_time=datetime_of(message.event_time) if message.decision_count else create_time,
        state=state,
        failure=_why(message),
        num_decisions=message.decision_count,
    )


def _why(message: FeedbackEventCreated) -> str:
    """Why an event is withheld or turned down, else who let it in; for people."""
    failure = message.feedback_event.failure
    if failure.reason:
        name = ErrorReason.Name(failure.reason).removeprefix("ERROR_REASON_")
        return f"{name}: {failure.message}"
    if not message.decider:
        return ""
    return f"let in by {message.decider}" + (f": {message.reason}" if message.reason else "")


def step_of(message: LessonAdvanced) -> LessonStep | None:
    """The step; None if its state is one that this version does not know."""
    transition = message.transition
    try:
        state = LessonState(Lesson.State.Name(transition.state).removeprefix("STATE_"))
    except ValueError:
        return None
    return LessonStep(
        state=state,
        service=transition.service,
        resource=transition.resource,
        reason=transition.reason,
        time=datetime_of(transition.transition_time),
    )


def advanced(lesson: str, feedback_event: str, step: LessonStep) -> LessonAdvanced:
    """The message that announces a step; its subject is `streams.lesson_advanced(...)`."""
    return LessonAdvanced(
        lesson=lesson, feedback_event=feedback_event, transition=transition_of(step)
    )


def transition_of(step: LessonStep) -> LessonTransition:
    transition = LessonTransition(
        state=Lesson.State.Value(f"STATE_{step.state}"),
        service=step.service,
        resource=step.resource,
        reason=step.reason,
    )
    transition.transition_time.FromDatetime(step.time)
    return transition


def lesson_id_of(name: str) -> str:
    """The id in a lesson's name; ValueError if it is none."""
    ids = names.parse(names.LESSON, name)
    if ids is None:
        raise ValueError(f"not a lesson name: {name!r}")
    return ids[0]


def datetime_of(timestamp: Any) -> datetime:
    """A protobuf Timestamp as an aware datetime."""
    moment: datetime = timestamp.ToDatetime(tzinfo=UTC)
    return moment
