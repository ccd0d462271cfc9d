"""Bounds of single fields, each violation noted under the field's path. Knows no request."""

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from feedback_svc import core
from feedback_svc.safety.redaction import redact
from selm import names
from selm.errors import Violations

MAX_TEXT_BYTES = 8192
MAX_LABELS = 64
MAX_LABEL_BYTES = 256
MAX_REASON_CHARACTERS = 500

T = TypeVar("T", bound=int)
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")


def parse_name(pattern: str, name: str) -> str:
    """A required resource name."""
    found = Violations()
    check_name(found, pattern, name, "name", required=True)
    found.raise_if_any()
    return name


def parse_adapter_filter(name: str) -> str:
    found = Violations()
    check_name(found, names.ADAPTER, name, "adapter")
    found.raise_if_any()
    return name


def check_text(found: Violations, field: str, text: str, max_bytes: int = MAX_TEXT_BYTES) -> None:
    if found.check(bool(text.strip()), field, "must not be empty"):
        found.check(len(text.encode()) <= max_bytes, field, f"at most {max_bytes} bytes")


def parse_reason(found: Violations, field: str, text: str, *, required: bool = False) -> str:
    """Words of a person on a decision or a wish, as they may be stored.

    Nothing is learned from them: they are redacted however much the deployment leaves in feedback.
    """
    found.check(bool(text.strip()) or not required, field, "required")
    is_short = len(text) <= MAX_REASON_CHARACTERS
    # Checked first, so that nothing long is searched.
    is_fit = found.check(is_short, field, f"at most {MAX_REASON_CHARACTERS} characters")
    return redact(text).text if is_fit else ""


def check_name(
    found: Violations, pattern: str, name: str, field: str, *, required: bool = False
) -> None:
    if not name:
        found.check(not required, field, f"required: `{pattern}`")
        return
    found.check(names.parse(pattern, name) is not None, field, f"must look like `{pattern}`")


def check_labels(found: Violations, field: str, labels: Mapping[str, str]) -> None:
    found.check(len(labels) <= MAX_LABELS, field, f"at most {MAX_LABELS}")
    for key, value in labels.items():
        is_fit = _LABEL_KEY.fullmatch(key) and len(value.encode()) <= MAX_LABEL_BYTES
        bounds = f"key `{_LABEL_KEY.pattern}`, value up to {MAX_LABEL_BYTES} bytes"
        found.check(bool(is_fit), f"{field}[{key[:64]}]", bounds)


def published(found: Violations, field: str, values: Iterable[T], enum: Any) -> list[T]:
    """The values that the contract publishes; 0 and any other is a violation."""
    asked, valid = list(values), enum.values()
    known = [value for value in asked if value and value in valid]
    found.check(len(known) == len(asked), field, "must be published values")
    return known


def request_key(
    method: str, request_id: str, content: bytes, found: Violations
) -> core.RequestKey | None:
    """Identity of an attempt; None if the caller gave none."""
    if not request_id:
        return None
    try:
        spelled = str(uuid.UUID(request_id))
    except ValueError:
        spelled = ""
    # NOTE: only the usual spelling: uuid.UUID also reads braces, URNs and bare hex.
    if not found.check(spelled == request_id.lower(), "request_id", "must be a UUID"):
        return None
    return core.RequestKey(spelled, content_digest(method, content))


def content_digest(method: str, content: bytes) -> str:
    """Fingerprint of what a caller asked for."""
    return hashlib.sha256(method.encode() + b"\0" + content).hexdigest()


def moment_of(found: Violations, field: str, timestamp: Any) -> datetime | None:
    """A timestamp as an aware datetime; None, and a violation, if there is no such moment."""
    try:
        moment: datetime = timestamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        found.add(field, "is no valid time")
        return None
    return moment
