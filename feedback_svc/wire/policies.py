"""UpdateTrainingPolicy in the words of core: which fields change, and to what."""

from collections.abc import Sequence
from typing import Any

from feedback_svc import core, learning
from feedback_svc.schedule import fault_of
from feedback_svc.wire.checks import parse_name, request_key
from selm import names
from selm.api.feedback.v1.learning_pb2 import TrainingPolicy
from selm.api.feedback.v1.learning_service_pb2 import UpdateTrainingPolicyRequest
from selm.errors import Violations
from selm.lessons import Consent

EVERY_FIELD = "*"
MAX_ETAG_BYTES = 64
_MAX_LESSONS = 10_000
_MAX_AUTHORS = 100
_DAY_S = 86_400.0
# Seconds that a span may last, by field; the name that core gives it.
_SPANS = {
    "max_lesson_age": ("idle_s", 30 * _DAY_S),
    "debounce": ("debounce_s", 3600.0),
    "cooldown": ("cooldown_s", _DAY_S),
    "daily_budget": ("daily_budget_s", _DAY_S),
}
_MUTABLE = (
    "paused",
    "min_lessons",
    "max_lesson_age",
    "schedule",
    "debounce",
    "cooldown",
    "daily_budget",
    "review_required",
    "quorum_authors",
    "max_author_share",
    "default_consent",
)


def parse_policy_name(name: str) -> str:
    """The adapter whose policy it is."""
    parse_name(names.TRAINING_POLICY, name)
    return name.rpartition("/")[0]


def parse_update_policy(
    request: UpdateTrainingPolicyRequest,
) -> tuple[learning.PolicyChange, core.RequestKey | None]:
    found, wire = Violations(), request.training_policy
    is_named = names.parse(names.TRAINING_POLICY, wire.name) is not None
    found.check(is_named, "training_policy.name", f"must look like `{names.TRAINING_POLICY}`")
    is_short = len(wire.etag.encode()) <= MAX_ETAG_BYTES
    found.check(is_short, "training_policy.etag", f"at most {MAX_ETAG_BYTES} bytes")
    fields: dict[str, Any] = {}
    for name in _wanted(found, list(request.update_mask.paths), wire):
        field, _ = _SPANS.get(name, (name, 0.0))
        fields[field] = _value(found, name, wire)
    content = UpdateTrainingPolicyRequest(
        training_policy=wire, update_mask=request.update_mask
    ).SerializeToString(deterministic=True)
    key = request_key("UpdateTrainingPolicy", request.request_id, content, found)
    found.raise_if_any()
    adapter = wire.name.rpartition("/")[0]
    return learning.PolicyChange(adapter, fields, wire.etag), key


def _wanted(found: Violations, paths: Sequence[str], wire: TrainingPolicy) -> list[str]:
    """Names of the fields to change; without a mask those that are filled in."""
    if not paths:
        present = {descriptor.name for descriptor, _ in wire.ListFields()}
        return [name for name in _MUTABLE if name in present]
    if EVERY_FIELD in paths:
        found.check(len(paths) == 1, "update_mask", f"{EVERY_FIELD} stands alone")
        return list(_MUTABLE)
    for path in paths:
        where = f"update_mask[{path[:64]}]"
        found.check(path in _MUTABLE, where, f"must be one of {', '.join(_MUTABLE)}")
    return [name for name in _MUTABLE if name in paths]


def _value(found: Violations, name: str, wire: TrainingPolicy) -> Any:
    """What a field is to be; None takes the default back."""
    where = f"training_policy.{name}"
    if name in _SPANS:
        return _seconds(found, name, wire)
    value = getattr(wire, name)
    match name:
        case "min_lessons":
            found.check(0 <= value <= _MAX_LESSONS, where, f"0 to {_MAX_LESSONS}")
            return value or None
        case "quorum_authors":
            found.check(0 <= value <= _MAX_AUTHORS, where, f"0 to {_MAX_AUTHORS}")
            return value or None
        case "max_author_share":
            # Written so that NaN fails too.
            found.check(bool(0 <= value <= 1), where, "0 to 1")
            return value or None
        case "schedule":
            if value and (fault := fault_of(value)):
                found.add(where, fault)
            return value or None
        case "default_consent":
            is_known = value == 0 or value in set(map(int, Consent))
            found.check(is_known, where, "must be one of the published values")
            return Consent(value) if value and is_known else None
    return bool(value)


def _seconds(found: Violations, name: str, wire: TrainingPolicy) -> float | None:
    if not wire.HasField(name):  # type: ignore[arg-type]
        return None
    span = getattr(wire, name)
    seconds = float(span.seconds + span.nanos / 1e9)
    longest = _SPANS[name][1]
    is_fit = 0 <= seconds <= longest
    found.check(is_fit, f"training_policy.{name}", f"0 s to {longest:.0f} s")
    return seconds
