"""A feedback event as it is answered and published."""

from feedback_svc import core, signals
from feedback_svc.render.failures import render_failure
from selm.api.feedback.v1 import feedback_event_pb2 as pb


def render_event(record: core.FeedbackRecord) -> pb.FeedbackEvent:
    """The event without its exchange, which is kept in the stream for those who learn from it."""
    event = pb.FeedbackEvent(
        name=record.name,
        user=record.user,
        adapter=record.adapter,
        consent=pb.Consent.ValueType(record.consent),
        labels=record.labels,
        state=pb.FeedbackEvent.State.ValueType(record.state),
        kind=pb.FeedbackKind.ValueType(signals.kind_of(record.signal)),
        author=record.author,
        adapter_revision=record.adapter_revision,
        lesson=record.lesson,
        sequence=record.sequence,
        findings=[_finding(finding) for finding in record.findings],
        redaction_count=record.num_redactions,
        reach=pb.Consent.ValueType(record.reach),
    )
    if record.conversation:
        event.conversation = record.conversation
    else:
        event.generation = record.generation
    render_signal(event, record.signal)
    if record.failure:
        event.failure.CopyFrom(render_failure(record.failure))
    event.event_time.FromDatetime(record.event_time)
    event.create_time.FromDatetime(record.create_time)
    return event


def render_signal(event: pb.FeedbackEvent, signal: signals.Signal) -> None:
    """Puts the signal into its field, in the place of whatever was there."""
    match signal:
        case signals.Correction():
            event.correction.CopyFrom(render_correction(signal))
        case signals.Rating():
            event.rating.value = signal.value
            event.rating.max_value = signal.max_value
        case signals.Thumbs():
            event.thumbs = pb.Thumbs.ValueType(signal)
        case signals.Preference():
            event.preference.chosen_text = signal.chosen
            event.preference.rejected_text = signal.rejected
        case signals.Comment():
            event.comment.text = signal.text
        case signals.Implicit():
            event.implicit.action = pb.Implicit.Action.ValueType(signal.action)
            event.implicit.edited_text = signal.edited_text


def render_correction(correction: signals.Correction) -> pb.Correction:
    return pb.Correction(
        text=correction.text,
        question=correction.question,
        paraphrases=correction.paraphrases,
    )


def _finding(finding: core.Finding) -> pb.Finding:
    return pb.Finding(
        kind=pb.Finding.Kind.Value(f"KIND_{finding.kind}"),
        field=finding.field,
        detail=finding.detail,
    )
