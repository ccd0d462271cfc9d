"""What feedback_svc says and hears on the bus: protobuf messages on one side, core on the other.

Publishes FeedbackEventCreated, LessonAdvanced (QUEUED) and TrainingRequested. Reads GENERATIONS by
subject, and folds FEEDBACK, LESSONS, JOBS and DEAD_LETTERS. Opens no connection itself.
"""

from google.protobuf.message import DecodeError, Message

from feedback_svc import core, learning
from feedback_svc.render import render_event, render_request
from feedback_svc.wire import question_in, signal_of
from selm import streams
from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.event.v1.adapter_event_pb2 import TrainingJobUpdated
from selm.api.event.v1.feedback_event_pb2 import (
    FeedbackEventCreated,
    LessonAdvanced,
    TrainingRequested,
)
from selm.api.event.v1.inference_event_pb2 import GenerationFinished
from selm.api.trainer.v1.training_job_pb2 import TrainingJob
from selm.delivery import Delivery
from selm.lesson_events import advanced, datetime_of, lesson_of, step_of
from selm.lessons import Consent, LessonRecord, LessonStep

_FINAL_JOB_STATES = {
    TrainingJob.STATE_SUCCEEDED: learning.RequestState.SUCCEEDED,
    TrainingJob.STATE_REJECTED: learning.RequestState.REJECTED,
    TrainingJob.STATE_FAILED: learning.RequestState.FAILED,
    TrainingJob.STATE_CANCELLED: learning.RequestState.CANCELLED,
}


class Codec:
    """Translates; the back room hands it deliveries and gets messages to publish."""

    def feedback_created(self, record: core.FeedbackRecord, exchange: core.Exchange) -> Message:
        message = FeedbackEventCreated(feedback_event=render_event(record))
        message.feedback_event.exchange.input.ParseFromString(exchange.content)
        message.feedback_event.exchange.answer = exchange.answer
        message.event_time.FromDatetime(record.create_time)
        return message

    def lesson_advanced(self, lesson: LessonRecord, step: LessonStep) -> Message:
        return advanced(lesson.name, lesson.feedback_event, step)

    def training_requested(self, request: learning.TrainingRequest) -> Message:
        view = learning.RequestView(request, learning.RequestState.WAITING, request.create_time)
        message = TrainingRequested(training_request=render_request(view))
        message.event_time.FromDatetime(request.create_time)
        return message

    def generation(self, delivery: Delivery) -> core.GenerationRecord:
        generation = delivery.parse(GenerationFinished).generation
        exchange = None
        if generation.content_stored and generation.HasField("input"):
            exchange = core.Exchange(
                content=generation.input.SerializeToString(),
                question=question_in(generation.input),
                answer=generation.candidates[0].text if generation.candidates else "",
            )
        resolution = generation.resolution
        return core.GenerationRecord(
            name=generation.name,
            user=generation.user,
            adapter=resolution.adapter,
            adapter_revision=resolution.adapter_revision if resolution.adapter_applied else "",
            exchange=exchange,
        )

    def feedback(self, delivery: Delivery) -> tuple[core.FeedbackRecord, LessonRecord | None]:
        message = delivery.parse(FeedbackEventCreated)
        tenant = streams.tenant_of(delivery.subject)
        event = message.feedback_event
        record = core.FeedbackRecord(
            tenant=tenant,
            name=event.name,
            generation=event.generation,
            signal=signal_of(event),
            user=event.user,
            adapter=event.adapter,
            consent=Consent(event.consent or Consent.MEMORY_ONLY),
            labels=dict(event.labels),
            author=event.author,
            adapter_revision=event.adapter_revision,
            lesson=event.lesson,
            event_time=datetime_of(event.event_time),
            create_time=datetime_of(event.create_time),
            sequence=delivery.sequence,
        )
        return record, lesson_of(tenant, delivery.sequence, message)

    def step(self, delivery: Delivery) -> core.StepNews | None:
        message = delivery.parse(LessonAdvanced)
        step = step_of(message)
        if step is None:
            return None
        return core.StepNews(streams.tenant_of(delivery.subject), message.lesson, step)

    def job(self, delivery: Delivery) -> learning.JobNews | None:
        job = delivery.parse(TrainingJobUpdated).training_job
        if not job.training_request:
            return None
        failure = None
        if job.HasField("failure"):
            failure = learning.Failure(
                reason=reason_name(job.failure.reason),
                message=job.failure.message,
                metadata=dict(job.failure.metadata),
                retryable=job.failure.retryable,
                time=datetime_of(job.failure.time),
            )
        return learning.JobNews(
            tenant=streams.tenant_of(delivery.subject),
            request=job.training_request,
            job=job.name,
            state=_FINAL_JOB_STATES.get(job.state, learning.RequestState.RUNNING),
            num_attempts=len(job.attempts),
            dataset=job.dataset,
            evaluation=job.evaluation,
            failure=failure,
            update_time=datetime_of(job.update_time),
        )

    def dead_letter(self, delivery: Delivery) -> learning.DeadLetterNews:
        stream = delivery.headers.get("Selm-Dead-Stream", "")
        adapter, request = _subject_of_dead_letter(stream, delivery.payload)
        return learning.DeadLetterNews(
            tenant=streams.tenant_of(delivery.subject),
            stream=stream,
            adapter=adapter,
            request=request,
            failure=learning.Failure(
                "ATTEMPTS_EXHAUSTED",
                delivery.headers.get("Selm-Dead-Message", ""),
                {"attempts": delivery.headers.get("Selm-Dead-Deliveries", "")},
            ),
        )


def _subject_of_dead_letter(stream: str, payload: bytes) -> tuple[str, str]:
    """Adapter and training request that a given-up message was about; empty where unknown."""
    try:
        if stream == streams.TRAINING.name:
            wish = TrainingRequested.FromString(payload).training_request
            return wish.adapter, wish.name
        if stream == streams.FEEDBACK.name:
            return FeedbackEventCreated.FromString(payload).feedback_event.adapter, ""
    except DecodeError:
        pass  # given up perhaps because nobody can read it
    return "", ""


def reason_name(reason: ErrorReason.ValueType) -> str:
    """Name of a published reason without its prefix; empty for one of a newer peer."""
    if reason not in ErrorReason.values():
        return ""
    return ErrorReason.Name(reason).removeprefix("ERROR_REASON_").removeprefix("UNSPECIFIED")
