"""One signal that a caller wants recorded, checked and in the words of core."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from feedback_svc import core, signals
from feedback_svc.wire.checks import (
    MAX_TEXT_BYTES,
    check_labels,
    check_name,
    check_text,
    content_digest,
    moment_of,
    request_key,
)
from selm import names
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.feedback_service_pb2 import CreateFeedbackEventRequest
from selm.api.inference.v1.input_pb2 import GenerationInput, Role
from selm.errors import Violations
from selm.lessons import Consent

MAX_PARAPHRASES = 16
MAX_COMMENT_BYTES = 4096
# As JSON, where one byte may become six, it still fits into one message of an export.
MAX_EXCHANGE_BYTES = 512 * 1024
DEFAULT_RATING_MAX = 5.0
OLDEST_EVENT = timedelta(days=30)
NEWEST_EVENT = timedelta(seconds=60)

_METHOD = "CreateFeedbackEvent"
_EVENT = "feedback_event"
_OUTPUT_ONLY: tuple[Any, ...] = (
    "name",
    "state",
    "kind",
    "author",
    "adapter_revision",
    "lesson",
    "sequence",
    "findings",
    "redaction_count",
    "failure",
    "create_time",
    "reach",
)


def parse_create(
    request: CreateFeedbackEventRequest, now: datetime
) -> tuple[core.Draft, core.RequestKey | None]:
    """The signal a caller wants recorded; InvalidFields names everything that is wrong with it."""
    event, found = request.feedback_event, Violations()
    _check_target(event, found)
    _check_signal(event, found)
    _check_options(event, found, now)
    asked = _as_asked(event)
    key = request_key(_METHOD, request.request_id, asked, found)
    found.raise_if_any()
    draft = core.Draft(
        signal=signal_of(event),
        generation=event.generation,
        conversation=event.conversation,
        exchange=_exchange_of(event.exchange) if event.HasField("exchange") else None,
        user=event.user,
        adapter=event.adapter,
        consent=Consent(event.consent) if event.consent else None,
        labels=dict(event.labels),
        event_time=event.event_time.ToDatetime(UTC) if event.HasField("event_time") else None,
        digest=content_digest(_METHOD, asked),
    )
    return draft, key


def signal_of(event: pb.FeedbackEvent) -> signals.Signal:
    """The signal of a valid event, as asked or as stored."""
    match event.WhichOneof("signal"):
        case "thumbs":
            return signals.Thumbs(event.thumbs)
        case "rating":
            best = event.rating.max_value or DEFAULT_RATING_MAX
            return signals.Rating(event.rating.value, best)
        case "correction":
            correction = event.correction
            return signals.Correction(
                correction.text, correction.question, tuple(correction.paraphrases)
            )
        case "preference":
            return signals.Preference(event.preference.chosen_text, event.preference.rejected_text)
        case "comment":
            return signals.Comment(event.comment.text)
        case "implicit":
            action = signals.Action(event.implicit.action)
            return signals.Implicit(action, event.implicit.edited_text)
    raise ValueError("a feedback event without a signal")


def question_in(content: GenerationInput) -> str:
    """What was asked: the last user message, or the whole prompt."""
    if content.WhichOneof("content") == "prompt":
        return content.prompt
    asked = [m.text for m in content.chat.messages if m.role == Role.ROLE_USER]
    return asked[-1] if asked else ""


def _check_target(event: pb.FeedbackEvent, found: Violations) -> None:
    match event.WhichOneof("target"):
        case None:
            found.add(f"{_EVENT}.target", "required: a generation or a conversation")
        case "generation":
            field = f"{_EVENT}.generation"
            check_name(found, names.GENERATION, event.generation, field, required=True)
        case "conversation":
            field = f"{_EVENT}.conversation"
            check_name(found, names.CONVERSATION, event.conversation, field, required=True)
            _check_conversation(event, found)
    if event.HasField("exchange"):
        _check_exchange(event, found)


def _check_conversation(event: pb.FeedbackEvent, found: Violations) -> None:
    """A conversation has no single answer that could be wrong or given along."""
    signal = event.WhichOneof("signal")
    is_fit = signal not in {"correction", "preference"}
    found.check(is_fit, f"{_EVENT}.{signal}", "is about one generation, not a conversation")
    no_exchange = not event.HasField("exchange")
    found.check(no_exchange, f"{_EVENT}.exchange", "is of one generation, not a conversation")


def _check_exchange(event: pb.FeedbackEvent, found: Violations) -> None:
    content, field = event.exchange.input, f"{_EVENT}.exchange"
    is_prompt = content.WhichOneof("content") == "prompt"
    found.check(
        bool(content.prompt if is_prompt else content.chat.messages),
        f"{field}.input",
        "required: the prompt or chat messages that were asked",
    )
    for index, message in enumerate(content.chat.messages):
        where = f"{field}.input.chat.messages[{index}]"
        is_role = message.role != Role.ROLE_UNSPECIFIED and message.role in Role.values()
        found.check(is_role, f"{where}.role", "required: SYSTEM, USER or ASSISTANT")
        found.check(bool(message.text), f"{where}.text", "required")
    found.check(bool(event.exchange.answer.strip()), f"{field}.answer", "required")
    is_small = event.exchange.ByteSize() <= MAX_EXCHANGE_BYTES
    found.check(is_small, field, f"at most {MAX_EXCHANGE_BYTES} bytes")


def _check_signal(event: pb.FeedbackEvent, found: Violations) -> None:
    match event.WhichOneof("signal"):
        case None:
            found.add(
                f"{_EVENT}.signal",
                "required: thumbs, rating, correction, preference, comment or implicit",
            )
        case "thumbs":
            is_known = event.thumbs in {pb.THUMBS_UP, pb.THUMBS_DOWN}
            found.check(is_known, f"{_EVENT}.thumbs", "must be UP or DOWN")
        case "rating":
            _check_rating(event.rating, found)
        case "correction":
            check_correction(event.correction, found)
        case "preference":
            _check_preference(event.preference, found)
        case "comment":
            check_text(found, f"{_EVENT}.comment.text", event.comment.text, MAX_COMMENT_BYTES)
        case "implicit":
            _check_implicit(event.implicit, found)


def _check_rating(rating: pb.Rating, found: Violations) -> None:
    field, best = f"{_EVENT}.rating", rating.max_value or DEFAULT_RATING_MAX
    if not found.check(
        math.isfinite(best) and best > 0, f"{field}.max_value", "must be finite and positive"
    ):
        best = math.inf
    is_on_scale = math.isfinite(rating.value) and 0 <= rating.value <= best
    found.check(is_on_scale, f"{field}.value", "must be a number from 0 to max_value")


def check_correction(
    correction: pb.Correction, found: Violations, field: str = f"{_EVENT}.correction"
) -> None:
    check_text(found, f"{field}.text", correction.text)
    if correction.question:
        check_text(found, f"{field}.question", correction.question, core.MAX_QUESTION_BYTES)
    found.check(
        len(correction.paraphrases) <= MAX_PARAPHRASES,
        f"{field}.paraphrases",
        f"at most {MAX_PARAPHRASES}",
    )
    for index, paraphrase in enumerate(correction.paraphrases):
        check_text(found, f"{field}.paraphrases[{index}]", paraphrase)
    found.check(correction.candidate_index == 0, f"{field}.candidate_index", "0 is the only one")


def _check_preference(preference: pb.Preference, found: Violations) -> None:
    field = f"{_EVENT}.preference"
    check_text(found, f"{field}.chosen_text", preference.chosen_text)
    if preference.rejected_text:
        check_text(found, f"{field}.rejected_text", preference.rejected_text)


def _check_implicit(implicit: pb.Implicit, found: Violations) -> None:
    field, action = f"{_EVENT}.implicit", implicit.action
    is_known = action != pb.Implicit.ACTION_UNSPECIFIED and action in pb.Implicit.Action.values()
    found.check(is_known, f"{field}.action", "must be REGENERATED, EDITED, COPIED or ABANDONED")
    if action == pb.Implicit.ACTION_EDITED:
        check_text(found, f"{field}.edited_text", implicit.edited_text, MAX_TEXT_BYTES)
    else:
        found.check(not implicit.edited_text, f"{field}.edited_text", "for EDITED only")


def _check_options(event: pb.FeedbackEvent, found: Violations, now: datetime) -> None:
    check_name(found, names.USER, event.user, f"{_EVENT}.user")
    is_one = event.user != names.EVERY_USER
    found.check(is_one, f"{_EVENT}.user", "must be one user, not all of them")
    check_name(found, names.ADAPTER, event.adapter, f"{_EVENT}.adapter")
    is_known = event.consent in pb.Consent.values()
    found.check(is_known, f"{_EVENT}.consent", "must be one of the published values")
    check_labels(found, f"{_EVENT}.labels", event.labels)
    if event.HasField("event_time"):
        _check_event_time(event, found, now)


def _check_event_time(event: pb.FeedbackEvent, found: Violations, now: datetime) -> None:
    moment = moment_of(found, f"{_EVENT}.event_time", event.event_time)
    if moment is None:
        return
    is_near = now - OLDEST_EVENT <= moment <= now + NEWEST_EVENT
    found.check(is_near, f"{_EVENT}.event_time", "at most 30 days back and 60 s ahead")


def _as_asked(event: pb.FeedbackEvent) -> bytes:
    """The caller's own words: output only fields are ignored, so they make no request different."""
    asked = pb.FeedbackEvent()
    asked.CopyFrom(event)
    for field in _OUTPUT_ONLY:
        asked.ClearField(field)
    content: bytes = asked.SerializeToString(deterministic=True)
    return content


def _exchange_of(exchange: pb.Exchange) -> core.Exchange:
    return core.Exchange(
        content=exchange.input.SerializeToString(),
        question=question_in(exchange.input),
        answer=exchange.answer,
    )
