"""A memory's history, kept in its own row: what happened, and how it looked after each change.

The row itself is the newest state, so an entry holds only what was different after it from what is
after the next one: a memory that never changed carries nothing twice. Pure; knows no store.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from memory_svc.core import (
    EMPTIED_STATES,
    Change,
    ChangeKind,
    Memory,
    State,
    Visibility,
    digest,
    without_text,
)
from selm.errors import SelmError

# Who changed a memory where no caller did.
SERVICE = "memory_svc"
MAX_ENTRIES = 64
MAX_BYTES = 48 * 1024
# Requests that changed or were folded into a memory; the oldest are forgotten first.
MAX_REQUESTS = 256

# What a reader sees of a memory and what may change.
_SEEN = (
    "text",
    "question",
    "subject_key",
    "visibility",
    "importance",
    "valid_start_time",
    "valid_end_time",
    "expire_time",
    "labels",
    "state",
    "feedback_event",
    "generation",
    "lesson",
    "superseded_by",
    "retired_by_revision",
    "duplicate_count",
    "embedding_model",
)
# What somebody said, as against what became of it.
_SAID = (
    "text",
    "question",
    "subject_key",
    "importance",
    "valid_start_time",
    "valid_end_time",
    "labels",
)
_KINDS = {"state": State, "visibility": Visibility}
# Among the fields of an entry: marks of the requests that caused it, 24 hex digits each.
_REQUESTS = "requests"
_MARK_DIGITS = 16


@dataclass(frozen=True)
class Entry:
    """One change, and the memory after it."""

    change: Change
    memory: Memory


def created(memory: Memory, principal: str, requests: Sequence[str] = ()) -> Memory:
    """The memory with the first entry of its history."""
    return replace(memory, changes=(_first(memory, principal, requests),))


def changed(
    before: Memory,
    after: Memory,
    kind: ChangeKind,
    now: datetime,
    principal: str,
    requests: Sequence[str] = (),
) -> Memory:
    """`after` with its time and this change. Times grow even within one microsecond, so that no two
    states of a memory have the same etag."""
    time = max(now, _after(before.update_time))
    known = list(before.changes) or [_first(before, before.author, ())]
    known[-1] = _with(known[-1], _differences(before, after) | _plain_fields(known[-1]))
    known.append(Change(kind, time, principal or SERVICE, _request_fields(requests)))
    if kind is ChangeKind.DUPLICATE_FOLDED and len(known) > 2 and known[-2].kind is kind:
        _drop(known, len(known) - 2)
    if after.state is State.DELETED:
        known = list(without_text(known))
    return replace(after, update_time=time, changes=_bounded(known))


def entries(memory: Memory) -> list[Entry]:
    """Every change with the memory after it, oldest first."""
    changes = list(memory.changes) or [_first(memory, memory.author, ())]
    if memory.state is State.DELETED and changes[-1].kind is not ChangeKind.DELETED:
        # Buried by a replica that heard of the delete: the row changed, its history did not.
        end = memory.live_end_time or memory.update_time
        time = max(end, _after(changes[-1].time))
        changes.append(Change(ChangeKind.DELETED, time, SERVICE))
    return list(reversed(list(_backwards(memory, changes))))


def told_at(memory: Memory, time: datetime | None) -> Memory:
    """The memory with the content that it had then; None is now. What was emptied stays empty."""
    if time is None or memory.state in EMPTIED_STATES:
        return memory
    by_then = [entry.memory for entry in entries(memory) if entry.change.time <= time]
    if not by_then:
        return memory
    return replace(memory, **{name: getattr(by_then[-1], name) for name in _SAID})


def mark_of(request_id: str, *content: str) -> str:
    """How a request is remembered: its id, and what it said."""
    return digest(request_id)[:_MARK_DIGITS] + digest(*content)[:8]


def requests_of(memory: Memory) -> list[str]:
    """The marks of all requests that this history knows, oldest first."""
    return [mark for change in memory.changes for mark in change.fields.get(_REQUESTS, ())]


def knows(memory: Memory, mark: str, request_id: str = "") -> bool:
    """Whether a request is part of this history; REQUEST_ID_REUSED if it said something else."""
    if not mark:
        return False
    known = [m for m in requests_of(memory) if m[:_MARK_DIGITS] == mark[:_MARK_DIGITS]]
    if known and mark not in known:
        raise SelmError(
            "REQUEST_ID_REUSED",
            "this request_id was used before with another content",
            metadata={"request_id": request_id},
        )
    return bool(known)


def _after(time: datetime) -> datetime:
    return time + timedelta(microseconds=1)


def _first(memory: Memory, principal: str, requests: Sequence[str]) -> Change:
    kept = _request_fields(requests[-MAX_REQUESTS:])
    return Change(ChangeKind.CREATED, memory.create_time, principal or SERVICE, kept)


def _backwards(memory: Memory, changes: Sequence[Change]) -> Iterator[Entry]:
    state = memory
    for change in reversed(changes):
        seen: dict[str, Any] = {
            name: _KINDS[name](value) if name in _KINDS else value
            for name, value in _plain_fields(change).items()
        }
        state = replace(state, **seen)
        yield Entry(change, replace(state, update_time=change.time))


def _differences(before: Memory, after: Memory) -> dict[str, Any]:
    return {
        name: int(value) if name in _KINDS else value
        for name in _SEEN
        if (value := getattr(before, name)) != getattr(after, name)
    }


def _plain_fields(change: Change) -> dict[str, Any]:
    return {name: value for name, value in change.fields.items() if name != _REQUESTS}


def _request_fields(requests: Sequence[str]) -> dict[str, Any]:
    return {_REQUESTS: list(requests)} if requests else {}


def _with(change: Change, fields: Mapping[str, Any]) -> Change:
    return replace(change, fields={**fields, **_request_fields(change.fields.get(_REQUESTS, ()))})


def _drop(changes: list[Change], index: int) -> None:
    """Takes one entry out; the one before it still shows what it showed, and the one after it
    remembers its requests."""
    dropped = changes.pop(index)
    before, after = changes[index - 1], changes[index]
    changes[index - 1] = _with(before, _plain_fields(dropped) | _plain_fields(before))
    requests = [*dropped.fields.get(_REQUESTS, ()), *after.fields.get(_REQUESTS, ())]
    changes[index] = replace(after, fields={**_plain_fields(after), **_request_fields(requests)})


def _bounded(changes: list[Change]) -> tuple[Change, ...]:
    """The first entry and as many of the newest as have room."""
    _forget_requests(changes)
    while len(changes) > 2 and (len(changes) > MAX_ENTRIES or _size(changes) > MAX_BYTES):
        _drop(changes, 1)
    while _size(changes) > MAX_BYTES:
        # Only the first state is left to shorten; it then shows what it later became.
        fields = dict(changes[0].fields)
        del fields[max(fields, key=lambda name: len(json.dumps(fields[name], default=str)))]
        changes[0] = replace(changes[0], fields=fields)
    return tuple(changes)


def _forget_requests(changes: list[Change]) -> None:
    surplus = sum(len(change.fields.get(_REQUESTS, ())) for change in changes) - MAX_REQUESTS
    for index, change in enumerate(changes):
        marks = change.fields.get(_REQUESTS, ())
        if surplus <= 0 or not marks:
            continue
        kept = marks[surplus:]
        surplus -= len(marks) - len(kept)
        changes[index] = replace(change, fields={**_plain_fields(change), **_request_fields(kept)})


def _size(changes: Sequence[Change]) -> int:
    """Bytes of the history as JSON, rather more than less."""
    return sum(
        len(json.dumps(dict(change.fields), default=str)) + len(change.principal) * 6 + 80
        for change in changes
    )
