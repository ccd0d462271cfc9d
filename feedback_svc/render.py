"""Core to protobuf: what feedback_svc answers. The other half of wire.py; validates nothing."""

from collections.abc import Sequence
from datetime import datetime

from feedback_svc import core, learning
from selm.api.error.v1.error_reason_pb2 import ErrorReason, Failure
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.learning_pb2 import QueueStats, TrainingRequest
from selm.api.feedback.v1.learning_service_pb2 import GetQueueStatsResponse
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.lesson_events import transition_of
from selm.lessons import LessonRecord, LessonState


def render_event(record: core.FeedbackRecord) -> pb.FeedbackEvent:
    """The event without its exchange, which is kept in the stream for those who learn from it."""
    event = pb.FeedbackEvent(
        name=record.name,
        generation=record.generation,
        user=record.user,
        adapter=record.adapter,
        consent=pb.Consent.ValueType(record.consent),
        labels=record.labels,
        state=pb.FeedbackEvent.STATE_ACCEPTED,
        kind=pb.FeedbackKind.ValueType(core.kind_of(record.signal)),
        author=record.author,
        adapter_revision=record.adapter_revision,
        lesson=record.lesson,
        sequence=record.sequence,
    )
    _render_signal(event, record.signal)
    event.event_time.FromDatetime(record.event_time)
    event.create_time.FromDatetime(record.create_time)
    return event


def render_lesson(record: LessonRecord, job: learning.JobNews | None) -> Lesson:
    """The lesson after its newest step; `job` is the newest that worked on its request."""
    lesson = Lesson(
        name=record.name,
        state=Lesson.State.Value(f"STATE_{record.state}"),
        feedback_event=record.feedback_event,
        kind=pb.FEEDBACK_KIND_CORRECTION,
        generation=record.generation,
        user=record.user,
        author=record.author,
        adapter=record.adapter,
        consent=pb.Consent.ValueType(record.consent),
        question=record.question,
        answer=record.answer,
        subject_key=record.subject_key,
        memory=record.memory,
        training_request=record.training_request,
        training_job=record.training_job or (job.job if job else ""),
        dataset=record.dataset or (job.dataset if job else ""),
        evaluation=record.evaluation or (job.evaluation if job else ""),
        adapter_revision=record.adapter_revision,
        superseded_by=record.superseded_by,
        transitions=[transition_of(step) for step in record.transitions],
    )
    if record.failure:
        lesson.failure.CopyFrom(_lesson_failure(record))
    lesson.create_time.FromDatetime(record.create_time)
    lesson.update_time.FromDatetime(record.update_time)
    return lesson


def render_request(view: learning.RequestView) -> TrainingRequest:
    wish = view.request
    request = TrainingRequest(
        name=wish.name,
        adapter=wish.adapter,
        state=TrainingRequest.State.Value(f"STATE_{view.state}"),
        trigger=TrainingRequest.Trigger.ValueType(wish.trigger),
        from_base=wish.from_base,
        reason=wish.reason,
        lesson_count=len(wish.lessons),
        training_job=view.job.job if view.job else "",
        requester=wish.requester,
        delivery_count=view.job.num_attempts if view.job else 0,
    )
    if view.failure:
        request.failure.CopyFrom(_failure(view.failure))
    request.create_time.FromDatetime(wish.create_time)
    request.update_time.FromDatetime(view.update_time)
    return request


def render_stats(numbers: Sequence[learning.QueueNumbers], now: datetime) -> GetQueueStatsResponse:
    response = GetQueueStatsResponse()
    for number in numbers:
        stats = QueueStats(
            adapter=number.adapter,
            kind=pb.FeedbackKind.ValueType(number.kind),
            waiting_lessons=number.num_waiting_lessons,
            waiting_requests=number.num_waiting_requests,
            running_requests=number.num_running_requests,
            redelivery_count=number.num_redeliveries,
            dead_letter_count=number.num_dead_letters,
        )
        stats.oldest_age.FromMicroseconds(round(number.oldest_age_s * 1e6))
        response.stats.append(stats)
    response.measure_time.FromDatetime(now)
    return response


def _render_signal(event: pb.FeedbackEvent, signal: core.Signal) -> None:
    match signal:
        case core.Correction():
            event.correction.text = signal.text
            event.correction.question = signal.question
            event.correction.paraphrases.extend(signal.paraphrases)
        case core.Rating():
            event.rating.value = signal.value
            event.rating.max_value = signal.max_value
        case core.Thumbs():
            event.thumbs = pb.Thumbs.ValueType(signal)


def _failure(failure: learning.Failure) -> Failure:
    rendered = Failure(
        reason=_reason(failure.reason),
        message=failure.message,
        metadata=failure.metadata,
        retryable=failure.retryable,
    )
    if failure.time:
        rendered.time.FromDatetime(failure.time)
    return rendered


def _lesson_failure(record: LessonRecord) -> Failure:
    """A step says why in words that may begin with a published reason, `GATE_FAILED: ...`."""
    head, _, rest = record.failure.partition(": ")
    known = _reason(head)
    failure = Failure(
        reason=known,
        message=rest if known and rest else record.failure,
        retryable=record.state is not LessonState.FAILED,
    )
    failure.time.FromDatetime(record.update_time)
    return failure


def _reason(name: str) -> ErrorReason.ValueType:
    full_name = f"ERROR_REASON_{name}"
    if full_name in ErrorReason.keys():  # noqa: SIM118 - an enum wrapper is no dict
        return ErrorReason.Value(full_name)
    return ErrorReason.ERROR_REASON_UNSPECIFIED
