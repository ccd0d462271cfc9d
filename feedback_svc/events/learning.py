"""Messages of learning: training requests out, jobs and dead letters in."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import DecodeError, Message

from feedback_svc import core, learning
from feedback_svc.dead_letters import DeadLetter
from feedback_svc.events.failures import failure_of
from feedback_svc.render.learning import render_request
from feedback_svc.signals import Kind
from selm import streams
from selm.api.event.v1.adapter_event_pb2 import TrainingJobUpdated
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated, TrainingRequested
from selm.api.trainer.v1.training_job_pb2 import TrainingJob
from selm.delivery import Delivery
from selm.lesson_events import datetime_of

_FINAL_JOB_STATES = {
    TrainingJob.STATE_SUCCEEDED: learning.RequestState.SUCCEEDED,
    TrainingJob.STATE_REJECTED: learning.RequestState.REJECTED,
    TrainingJob.STATE_FAILED: learning.RequestState.FAILED,
    TrainingJob.STATE_CANCELLED: learning.RequestState.CANCELLED,
}


class LearningCodec:
    """Translates requests, jobs and dead letters."""

    def training_requested(
        self, request: learning.TrainingRequest, max_author_share: float
    ) -> Message:
        view = learning.RequestView(request, learning.RequestState.WAITING, request.create_time)
        message = TrainingRequested(
            training_request=render_request(view), max_author_share=max_author_share
        )
        message.event_time.FromDatetime(request.create_time)
        return message

    def job(self, delivery: Delivery) -> learning.JobNews | None:
        job = delivery.parse(TrainingJobUpdated).training_job
        if not job.training_request:
            return None
        return learning.JobNews(
            tenant=streams.tenant_of(delivery.subject),
            request=job.training_request,
            job=job.name,
            state=_FINAL_JOB_STATES.get(job.state, learning.RequestState.RUNNING),
            num_attempts=len(job.attempts),
            dataset=job.dataset,
            evaluation=job.evaluation,
            failure=failure_of(job.failure) if job.HasField("failure") else None,
            update_time=datetime_of(job.update_time),
            adapter=job.adapter,
            start_time=datetime_of(job.start_time) if job.HasField("start_time") else None,
            end_time=datetime_of(job.end_time) if job.HasField("end_time") else None,
        )

    def dead_letter(self, delivery: Delivery) -> DeadLetter:
        said = delivery.headers
        stream = said.get("Selm-Dead-Stream", "")
        metadata = delivery.message.metadata if delivery.message is not None else None
        return DeadLetter(
            tenant=streams.tenant_of(delivery.subject),
            letter_id=delivery.subject.rpartition(".")[2],
            stream=stream,
            subject=_without_tenant(said.get("Selm-Dead-Subject", "")),
            sequence=int(said.get("Selm-Dead-Sequence", 0)),
            consumer=said.get("Selm-Dead-Consumer", ""),
            message_type=delivery.message_type,
            num_deliveries=int(said.get("Selm-Dead-Deliveries", 0)),
            failure=core.Failure(
                said.get("Selm-Dead-Reason", ""), said.get("Selm-Dead-Message", ""), {}
            ),
            create_time=metadata.timestamp if metadata else datetime.now(UTC),
            **_about(stream, delivery.payload),
        )


def _without_tenant(subject: str) -> str:
    """A subject as everybody may read it: without its fourth token."""
    tokens = subject.split(".")
    return ".".join((*tokens[:3], *tokens[4:]))


def _about(stream: str, payload: bytes) -> dict[str, Any]:
    """Adapter, request, lesson and kind of what was given up; nothing where that is unknown."""
    try:
        if stream == streams.TRAINING.name:
            wish = TrainingRequested.FromString(payload).training_request
            return {"adapter": wish.adapter, "request": wish.name, "kind": Kind.CORRECTION}
        if stream == streams.FEEDBACK.name:
            event = FeedbackEventCreated.FromString(payload).feedback_event
            kind = Kind(event.kind) if event.kind else None
            return {"adapter": event.adapter, "lesson": event.lesson, "kind": kind}
    except (DecodeError, ValueError):
        pass  # given up perhaps because nobody can read it
    return {}
