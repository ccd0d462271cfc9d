"""Protobuf to core: all request validation, every violated field reported at once."""

import hashlib
import math
import re
import uuid
from datetime import UTC, datetime, timedelta

from feedback_svc import core, learning
from selm import names
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.feedback_service_pb2 import CreateFeedbackEventRequest
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.learning_service_pb2 import CreateTrainingRequestRequest
from selm.api.inference.v1.input_pb2 import GenerationInput, Role
from selm.errors import Violations
from selm.lessons import Consent

MAX_TEXT_BYTES = 8192
MAX_PARAPHRASES = 16
MAX_LABELS = 64
MAX_LABEL_BYTES = 256
MAX_REASON_CHARACTERS = 500
DEFAULT_RATING_MAX = 5.0
OLDEST_EVENT = timedelta(days=30)
NEWEST_EVENT = timedelta(seconds=60)

_LABEL_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_EVENT = "feedback_event"


def parse_create(
    request: CreateFeedbackEventRequest, now: datetime
) -> tuple[core.Draft, core.RequestKey | None]:
    """The signal a caller wants recorded; InvalidFields names everything that is wrong with it."""
    event, found = request.feedback_event, Violations()
    _check_target(event, found)
    _check_signal(event, found)
    _check_options(event, found, now)
    key = _request_key("CreateFeedbackEvent", request.request_id, _as_asked(event), found)
    found.raise_if_any()
    draft = core.Draft(
        generation=event.generation,
        signal=signal_of(event),
        exchange=_exchange_of(event.exchange) if event.HasField("exchange") else None,
        user=event.user,
        adapter=event.adapter,
        consent=Consent(event.consent) if event.consent else None,
        labels=dict(event.labels),
        event_time=event.event_time.ToDatetime(UTC) if event.HasField("event_time") else None,
    )
    return draft, key


def parse_training_request(
    request: CreateTrainingRequestRequest,
) -> tuple[learning.TrainingWish, core.RequestKey | None]:
    wish, found = request.training_request, Violations()
    _check_name(found, names.ADAPTER, wish.adapter, "training_request.adapter", required=True)
    found.check(
        len(wish.reason) <= MAX_REASON_CHARACTERS,
        "training_request.reason",
        f"at most {MAX_REASON_CHARACTERS} characters",
    )
    asked = TrainingRequest(adapter=wish.adapter, from_base=wish.from_base, reason=wish.reason)
    content = asked.SerializeToString(deterministic=True)
    key = _request_key("CreateTrainingRequest", request.request_id, content, found)
    found.raise_if_any()
    return learning.TrainingWish(wish.adapter, wish.from_base, wish.reason), key


def parse_name(pattern: str, name: str) -> str:
    """A required resource name."""
    found = Violations()
    _check_name(found, pattern, name, "name", required=True)
    found.raise_if_any()
    return name


def parse_adapter_filter(name: str) -> str:
    found = Violations()
    _check_name(found, names.ADAPTER, name, "adapter")
    found.raise_if_any()
    return name


def signal_of(event: pb.FeedbackEvent) -> core.Signal:
    """The signal of a valid event."""
    match event.WhichOneof("signal"):
        case "thumbs":
            return core.Thumbs(event.thumbs)
        case "rating":
            best = event.rating.max_value or DEFAULT_RATING_MAX
            return core.Rating(event.rating.value, best)
        case "correction":
            correction = event.correction
            return core.Correction(
                correction.text, correction.question, tuple(correction.paraphrases)
            )
    raise ValueError("a feedback event without a signal")


def question_in(content: GenerationInput) -> str:
    """What was asked: the last user message, or the whole prompt."""
    if content.WhichOneof("content") == "prompt":
        return content.prompt
    asked = [m.text for m in content.chat.messages if m.role == Role.ROLE_USER]
    return asked[-1] if asked else ""


def _check_target(event: pb.FeedbackEvent, found: Violations) -> None:
    field = f"{_EVENT}.generation"
    _check_name(found, names.GENERATION, event.generation, field, required=True)
    if not event.HasField("exchange"):
        return
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


def _check_signal(event: pb.FeedbackEvent, found: Violations) -> None:
    match event.WhichOneof("signal"):
        case None:
            found.add(f"{_EVENT}.signal", "required: thumbs, rating or correction")
        case "thumbs":
            is_known = event.thumbs in {pb.THUMBS_UP, pb.THUMBS_DOWN}
            found.check(is_known, f"{_EVENT}.thumbs", "must be UP or DOWN")
        case "rating":
            _check_rating(event.rating, found)
        case "correction":
            _check_correction(event.correction, found)


def _check_rating(rating: pb.Rating, found: Violations) -> None:
    field, best = f"{_EVENT}.rating", rating.max_value or DEFAULT_RATING_MAX
    if not found.check(
        math.isfinite(best) and best > 0, f"{field}.max_value", "must be finite and positive"
    ):
        best = math.inf
    is_on_scale = math.isfinite(rating.value) and 0 <= rating.value <= best
    found.check(is_on_scale, f"{field}.value", "must be a number from 0 to max_value")


def _check_correction(correction: pb.Correction, found: Violations) -> None:
    field = f"{_EVENT}.correction"
    _check_text(found, f"{field}.text", correction.text)
    if correction.question:
        _check_text(found, f"{field}.question", correction.question, core.MAX_QUESTION_BYTES)
    found.check(
        len(correction.paraphrases) <= MAX_PARAPHRASES,
        f"{field}.paraphrases",
        f"at most {MAX_PARAPHRASES}",
    )
    for index, paraphrase in enumerate(correction.paraphrases):
        _check_text(found, f"{field}.paraphrases[{index}]", paraphrase)
    found.check(correction.candidate_index == 0, f"{field}.candidate_index", "0 is the only one")


def _check_options(event: pb.FeedbackEvent, found: Violations, now: datetime) -> None:
    _check_name(found, names.USER, event.user, f"{_EVENT}.user")
    is_one = event.user != names.EVERY_USER
    found.check(is_one, f"{_EVENT}.user", "must be one user, not all of them")
    _check_name(found, names.ADAPTER, event.adapter, f"{_EVENT}.adapter")
    is_known = event.consent in pb.Consent.values()
    found.check(is_known, f"{_EVENT}.consent", "must be one of the published values")
    found.check(len(event.labels) <= MAX_LABELS, f"{_EVENT}.labels", f"at most {MAX_LABELS}")
    for key, value in event.labels.items():
        is_fit = _LABEL_KEY.fullmatch(key) and len(value.encode()) <= MAX_LABEL_BYTES
        bounds = f"key `{_LABEL_KEY.pattern}`, value up to {MAX_LABEL_BYTES} bytes"
        found.check(bool(is_fit), f"{_EVENT}.labels[{key[:64]}]", bounds)
    if event.HasField("event_time"):
        _check_event_time(event, found, now)


def _check_event_time(event: pb.FeedbackEvent, found: Violations, now: datetime) -> None:
    try:
        moment = event.event_time.ToDatetime(UTC)
    except (ValueError, OverflowError):
        found.add(f"{_EVENT}.event_time", "is no valid time")
        return
    is_near = now - OLDEST_EVENT <= moment <= now + NEWEST_EVENT
    found.check(is_near, f"{_EVENT}.event_time", "at most 30 days back and 60 s ahead")


def _check_text(found: Violations, field: str, text: str, max_bytes: int = MAX_TEXT_BYTES) -> None:
    if found.check(bool(text.strip()), field, "must not be empty"):
        found.check(len(text.encode()) <= max_bytes, field, f"at most {max_bytes} bytes")


def _check_name(
    found: Violations, pattern: str, name: str, field: str, *, required: bool = False
) -> None:
    if not name:
        found.check(not required, field, f"required: `{pattern}`")
        return
    found.check(names.parse(pattern, name) is not None, field, f"must look like `{pattern}`")


def _request_key(
    method: str, request_id: str, content: bytes, found: Violations
) -> core.RequestKey | None:
    if not request_id:
        return None
    try:
        spelled = str(uuid.UUID(request_id))
    except ValueError:
        spelled = ""
    # NOTE: only the usual spelling: uuid.UUID also reads braces, URNs and bare hex.
    if not found.check(spelled == request_id.lower(), "request_id", "must be a UUID"):
        return None
    digest = hashlib.sha256(method.encode() + b"\0" + content).hexdigest()
    return core.RequestKey(spelled, digest)


def _as_asked(event: pb.FeedbackEvent) -> bytes:
    """The caller's own words: output only fields are ignored, so they make no request different."""
    asked = pb.FeedbackEvent()
    asked.CopyFrom(event)
    for field in (
        "name",
        "state",
        "kind",
        "author",
        "adapter_revision",
        "lesson",
        "sequence",
        "create_time",
    ):
        asked.ClearField(field)
    content: bytes = asked.SerializeToString(deterministic=True)
    return content


def _exchange_of(exchange: pb.Exchange) -> core.Exchange:
    return core.Exchange(
        content=exchange.input.SerializeToString(),
        question=question_in(exchange.input),
        answer=exchange.answer,
    )
