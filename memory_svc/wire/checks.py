"""Bounds of single fields, each violation noted under the field's path. Knows no request."""

import re
import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from memory_svc.core import MemoryType, State
from selm import names
from selm.errors import Violations

MAX_LABELS = 64
MAX_LABEL_BYTES = 256
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
# Steps and lists have lines; everything else of category C could forge what a reader sees.
_ALLOWED_CONTROLS = frozenset("\n\r\t")


def check_parent(found: Violations, parent: str) -> str:
    """The owner `users/{user}`."""
    is_user = names.parse(names.USER, parent) is not None
    found.check(is_user, "parent", f"must be users/{{user}}, user {names.id_rule('user')}")
    return parent


def check_owner(found: Violations, parent: str) -> str:
    """The owner `users/{user}`, where `users/-` for all of them says nothing."""
    found.check(parent != names.EVERY_USER, "parent", "must be one user, not all of them")
    return check_parent(found, parent)


def check_name(found: Violations, field: str, pattern: str, value: str) -> None:
    """An optional resource name."""
    found.check(not value or names.parse(pattern, value) is not None, field, f"must be {pattern}")


def check_text(found: Violations, field: str, text: str, max_bytes: int) -> bool:
    """A required text."""
    is_there = found.check(bool(text.strip()), field, "required")
    return is_there and check_size(found, field, text, max_bytes)


def check_size(found: Violations, field: str, text: str, max_bytes: int) -> bool:
    size = len(text.encode())
    return found.check(size <= max_bytes, field, f"{size} bytes, at most {max_bytes}")


def check_plain(found: Violations, field: str, text: str) -> None:
    """A text without control characters but line breaks and tabs."""
    is_plain = all(sign in _ALLOWED_CONTROLS or unicodedata.category(sign) != "Cc" for sign in text)
    found.check(is_plain, field, "holds control characters")


def check_labels(found: Violations, field: str, labels: Mapping[str, str]) -> None:
    found.check(len(labels) <= MAX_LABELS, field, f"{len(labels)} labels, at most {MAX_LABELS}")
    for key, value in labels.items():
        where = f"{field}[{key[:64]}]"
        check_label_key(found, where, key)
        if check_size(found, where, value, MAX_LABEL_BYTES):
            check_plain(found, where, value)


def check_label_key(found: Violations, field: str, key: str) -> None:
    found.check(_LABEL_KEY.fullmatch(key) is not None, field, f"key: {_LABEL_KEY.pattern}")


def check_request_id(found: Violations, request_id: str) -> None:
    """An optional UUID4."""
    if not request_id:
        return
    try:
        read = uuid.UUID(request_id)
        # As it is spelled: others take any number of signs, and it is stored, and part of a key.
        is_uuid4 = read.version == 4 and str(read) == request_id.lower()
    except ValueError:
        is_uuid4 = False
    found.check(is_uuid4, "request_id", "must be a UUID4")


def types_of(found: Violations, field: str, numbers: Sequence[int]) -> tuple[MemoryType, ...]:
    known = [int(kind) for kind in MemoryType]
    for index, number in enumerate(numbers):
        found.check(number in known, f"{field}[{index}]", "must be a type of memory")
    return tuple(MemoryType(number) for number in numbers if number in known)


def states_of(
    found: Violations, field: str, numbers: Sequence[int], allowed: Sequence[State]
) -> tuple[State, ...]:
    """States of a filter; ACTIVE if it names none."""
    known = [int(state) for state in allowed]
    allowed_names = ", ".join(state.name for state in allowed)
    for index, number in enumerate(numbers):
        found.check(number in known, f"{field}[{index}]", f"must be one of {allowed_names}")
    return tuple(State(number) for number in numbers if number in known) or (State.ACTIVE,)


def time_of(found: Violations, message: Any, field: str, path: str) -> datetime | None:
    """An optional Timestamp field; a time that no calendar has is a violation."""
    if not message.HasField(field):
        return None
    try:
        moment: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        found.add(path, "not a time between the years 1 and 9999")
        return None
    return moment
