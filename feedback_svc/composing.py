"""The rules that make an event of a draft and the generation it is about. Pure."""

import hashlib
from datetime import datetime

from feedback_svc import core
from feedback_svc.access import WRITE_ALL
from feedback_svc.signals import Correction, Preference, Signal
from selm import names
from selm.auth import scope_missing
from selm.errors import FieldViolation, InvalidFields, SelmError
from selm.lessons import Consent
from selm.questions import normalise


def event_id(tenant: str, request_id: str) -> str:
    """The same request gives the same id, in every process and after every crash."""
    if not request_id:
        return names.new_id()
    return _digest(tenant, "feedback_event", request_id)


def event_name(event: str) -> str:
    return names.feedback_event_name(event)


def adapter_of(draft: core.Draft, generation: core.GenerationRecord | None) -> str:
    """The adapter that may learn from it: the one asked for, else the one that answered."""
    answered = generation.adapter if generation else ""
    return draft.adapter or answered or names.DEFAULT_ADAPTER


def lesson_id(event: str) -> str:
    """The lesson that a feedback event becomes."""
    return _digest("lesson", event)


def compose(
    tenant: str,
    author: str,
    event: str,
    draft: core.Draft,
    generation: core.GenerationRecord | None,
    default_consent: Consent,
    now: datetime,
) -> tuple[core.FeedbackRecord, core.Exchange | None]:
    """The event that a draft becomes, defaults filled in from the generation it is about.

    `generation` is None for feedback on a conversation, which has no exchange of its own.
    """
    answered = generation.user if generation else ""
    user = draft.user or answered or names.ANONYMOUS_USER
    if draft.only_for:
        _check_own(draft.only_for, user, answered)
    exchange = None
    if generation is not None:
        _check_user(draft, generation)
        exchange = generation.exchange or draft.exchange
        if exchange is None:
            raise SelmError(
                "GENERATION_NOT_STORED",
                f"the text of {draft.generation} was not stored: send the exchange too",
                metadata={"generation": draft.generation},
            )
    signal = _completed(draft.signal, exchange) if exchange else draft.signal
    is_lesson = isinstance(signal, Correction)
    consent = draft.consent or default_consent
    record = core.FeedbackRecord(
        tenant=tenant,
        name=event_name(event),
        signal=signal,
        generation=draft.generation,
        conversation=draft.conversation,
        user=user,
        adapter=adapter_of(draft, generation),
        consent=consent,
        labels=draft.labels,
        author=author,
        adapter_revision=generation.adapter_revision if generation else "",
        lesson=names.lesson_name(lesson_id(event)) if is_lesson else "",
        event_time=draft.event_time or now,
        create_time=now,
        reach=consent,
        digest=draft.digest,
    )
    return record, exchange


def _check_own(own: str, user: str, asked: str) -> None:
    """Nobody puts words into the mouth of another; an anonymous answer is everybody's to judge."""
    if user != own or asked not in {"", names.ANONYMOUS_USER, own}:
        raise scope_missing(WRITE_ALL)


def _check_user(draft: core.Draft, generation: core.GenerationRecord) -> None:
    """What one user asked must not be kept as another's: an erasure would not find it."""
    owners = {draft.user, generation.user} - {"", names.ANONYMOUS_USER}
    if len(owners) > 1:
        advice = f"must be the user of the generation, {generation.user}"
        raise InvalidFields([FieldViolation("feedback_event.user", advice)])


def _completed(signal: Signal, exchange: core.Exchange) -> Signal:
    """What the signal leaves to the exchange filled in; refused if it teaches nothing."""
    match signal:
        case Correction():
            return _completed_correction(signal, exchange)
        case Preference():
            rejected = signal.rejected or exchange.answer
            if normalise(signal.chosen) == normalise(rejected):
                raise _without_change("preference", "the two texts of the preference are equal")
            return Preference(signal.chosen, rejected)
    return signal


def _completed_correction(signal: Correction, exchange: core.Exchange) -> Correction:
    question = signal.question or exchange.question
    field_name = "feedback_event.correction.question"
    if not question.strip():
        raise InvalidFields([FieldViolation(field_name, "required: the input has no user message")])
    if len(question.encode()) > core.MAX_QUESTION_BYTES:
        # Taken from the input, which may be a whole document; wire has bounded a given one.
        advice = f"the input's is over {core.MAX_QUESTION_BYTES} bytes: give a shorter question"
        raise InvalidFields([FieldViolation(field_name, advice)])
    if normalise(signal.text) == normalise(exchange.answer):
        raise _without_change("correction", "the correction equals the answer that was given")
    return Correction(signal.text, question, signal.paraphrases)


def _without_change(signal: str, message: str) -> SelmError:
    return SelmError("FEEDBACK_WITHOUT_CHANGE", message, metadata={"signal": signal})


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
