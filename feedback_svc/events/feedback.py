"""Messages of feedback: events and decisions on them, generations, steps of lessons."""

from collections.abc import Callable

from google.protobuf.message import Message

from feedback_svc import core
from feedback_svc.events.failures import failure_of
from feedback_svc.render.events import render_event
from feedback_svc.wire.create import question_in, signal_of
from selm import streams
from selm.api.event.v1.feedback_event_pb2 import (
    FeedbackErased,
    FeedbackEventCreated,
    LessonAdvanced,
)
from selm.api.event.v1.inference_event_pb2 import GenerationFinished
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.inference.v1.input_pb2 import GenerationInput
from selm.delivery import Delivery
from selm.lesson_events import advanced, datetime_of, lesson_of, step_of
from selm.lessons import Consent, LessonRecord, LessonStep


class FeedbackCodec:
    """Translates events, generations and steps."""

    def feedback_created(
        self, record: core.FeedbackRecord, exchange: core.Exchange | None
    ) -> FeedbackEventCreated:
        message = FeedbackEventCreated(feedback_event=render_event(record), digest=record.digest)
        if exchange is not None:
            message.feedback_event.exchange.input.ParseFromString(exchange.content)
            message.feedback_event.exchange.answer = exchange.answer
        message.event_time.FromDatetime(record.create_time)
        return message

    def feedback_decided(self, stored: Delivery, record: core.FeedbackRecord) -> Message:
        """The stored event again, as the decision leaves it."""
        before = stored.parse(FeedbackEventCreated)
        message = FeedbackEventCreated(
            feedback_event=render_event(record),
            digest=before.digest,
            decision_count=record.num_decisions,
        )
        if before.feedback_event.HasField("exchange"):
            message.feedback_event.exchange.CopyFrom(before.feedback_event.exchange)
        if record.decision is not None:
            message.decider, message.reason = record.decision.decider, record.decision.reason
            message.event_time.FromDatetime(record.decision.time)
        return message

    def feedback(self, delivery: Delivery) -> tuple[core.FeedbackRecord, LessonRecord | None]:
        message = delivery.parse(FeedbackEventCreated)
        tenant = streams.tenant_of(delivery.subject)
        event = message.feedback_event
        state = core.EventState(event.state or core.EventState.ACCEPTED)
        consent = Consent(event.consent or Consent.MEMORY_ONLY)
        record = core.FeedbackRecord(
            tenant=tenant,
            name=event.name,
            signal=signal_of(event),
            generation=event.generation,
            conversation=event.conversation,
            user=event.user,
            adapter=event.adapter,
            consent=consent,
            labels=dict(event.labels),
            author=event.author,
            adapter_revision=event.adapter_revision,
            lesson=event.lesson,
            event_time=datetime_of(event.event_time),
            create_time=datetime_of(event.create_time),
            sequence=event.sequence or delivery.sequence,
            state=state,
            findings=tuple(map(_finding_of, event.findings)),
            num_redactions=event.redaction_count,
            failure=failure_of(event.failure) if event.HasField("failure") else None,
            reach=Consent(event.reach or consent),
            num_decisions=message.decision_count,
            decision=_decision_of(message),
            was_withheld=state.is_withheld,
            digest=message.digest,
        )
        return record, lesson_of(tenant, delivery.sequence, message)

    def lesson(
        self, record: core.FeedbackRecord, exchange: core.Exchange | None
    ) -> LessonRecord | None:
        """What the event teaches, as whoever reads it from the stream will see it."""
        if not record.lesson:
            return None
        return lesson_of(record.tenant, record.sequence, self.feedback_created(record, exchange))

    def exchange(self, delivery: Delivery) -> core.Exchange | None:
        """What was asked and answered, of a stored event; None if it is about a conversation."""
        event = delivery.parse(FeedbackEventCreated).feedback_event
        if not event.HasField("exchange"):
            return None
        return _exchange(event.exchange.input, event.exchange.answer)

    def redacted(self, exchange: core.Exchange, clean: Callable[[str], str]) -> core.Exchange:
        """The exchange with each of its texts cleaned."""
        content = GenerationInput.FromString(exchange.content)
        if content.WhichOneof("content") == "prompt":
            content.prompt = clean(content.prompt)
        for message in content.chat.messages:
            message.text = clean(message.text)
        return _exchange(content, clean(exchange.answer))

    def erased(self, delivery: Delivery) -> tuple[str, list[core.Erased]]:
        """The tenant, and what is left of its purged events."""
        message = delivery.parse(FeedbackErased)
        events = [
            core.Erased(e.feedback_event, e.digest, e.lesson, e.author, e.target)
            for e in message.events
        ]
        return streams.tenant_of(delivery.subject), events

    def generation(self, delivery: Delivery) -> core.GenerationRecord:
        generation = delivery.parse(GenerationFinished).generation
        exchange = None
        if generation.content_stored and generation.HasField("input"):
            answer = generation.candidates[0].text if generation.candidates else ""
            exchange = _exchange(generation.input, answer)
        resolution = generation.resolution
        return core.GenerationRecord(
            name=generation.name,
            user=generation.user,
            adapter=resolution.adapter,
            adapter_revision=resolution.adapter_revision if resolution.adapter_applied else "",
            exchange=exchange,
        )

    def lesson_advanced(self, lesson: LessonRecord, step: LessonStep) -> Message:
        return advanced(lesson.name, lesson.feedback_event, step)

    def step(self, delivery: Delivery) -> core.StepNews | None:
        message = delivery.parse(LessonAdvanced)
        step = step_of(message)
        if step is None:
            return None
        return core.StepNews(streams.tenant_of(delivery.subject), message.lesson, step)


def _exchange(content: GenerationInput, answer: str) -> core.Exchange:
    return core.Exchange(content.SerializeToString(), question_in(content), answer)


def _finding_of(finding: pb.Finding) -> core.Finding:
    kind = pb.Finding.Kind.Name(finding.kind).removeprefix("KIND_")
    return core.Finding(kind, finding.field, finding.detail)


def _decision_of(message: FeedbackEventCreated) -> core.Decision | None:
    if not message.decision_count:
        return None
    return core.Decision(message.decider, message.reason, datetime_of(message.event_time))
