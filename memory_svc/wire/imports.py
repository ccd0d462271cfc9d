"""An imported memory to core: what its own export said of it, checked like what a stranger says.

Keys that memories are found by are derived anew and never taken from the stream.
"""

from datetime import datetime
from math import isfinite

from memory_svc.core import (
    DEFAULT_IMPORTANCE,
    LIVE_STATES,
    Counters,
    Memory,
    MemoryType,
    State,
    Visibility,
    with_keys,
)
from memory_svc.wire import checks
from memory_svc.wire.content import MAX_QUESTION_BYTES, MAX_TEXT_BYTES
from memory_svc.wire.filters import MAX_SUBJECT_KEY_BYTES
from selm import names
from selm.api.memory.v1 import memory_admin_service_pb2 as pb
from selm.api.memory.v1 import memory_pb2
from selm.auth import Principal
from selm.errors import Violations

MAX_AUTHOR_BYTES = 256
MAX_MODEL_BYTES = 256
# Far from where adding to it would overflow.
MAX_COUNT = 2**53
_IMPORTED_STATES = (State.ACTIVE, State.SUPERSEDED, State.RETIRED, State.EXPIRED)
_NAMES = {
    "conversation": names.CONVERSATION,
    "feedback_event": names.FEEDBACK_EVENT,
    "generation": names.GENERATION,
    "lesson": names.LESSON,
    "superseded_by": names.MEMORY,
    "retired_by_revision": names.REVISION,
}


def parse_import(request: pb.ImportMemoriesRequest, principal: Principal, now: datetime) -> Memory:
    """The memory as it was exported; its vector as sent, which is not yet to be trusted."""
    found, wire = Violations(), request.memory
    ids = names.parse(names.MEMORY, wire.name)
    is_owned = ids is not None and names.user_name(ids[0]) != names.EVERY_USER
    found.check(is_owned, "memory.name", f"must be {names.MEMORY} of one user")
    state = _state(found, wire)
    _check_content(found, wire, is_swept=state is State.EXPIRED)
    _check_labels_and_names(found, wire)
    times = {field: checks.time_of(found, wire, field, f"memory.{field}") for field in _TIMES}
    counters = _counters(found, wire)
    if state is State.EXPIRED and wire.text:
        ends = [end for name in _ENDS if (end := times[name]) is not None]
        is_over = bool(ends) and min(ends) <= now
        found.check(is_over, "memory.state", "EXPIRED, but its times say that it goes on")
    found.raise_if_any()
    assert ids is not None
    create_time = times["create_time"] or now
    update_time = times["update_time"] or create_time
    # Its text is there, so the sweep has not come by: readers see that it is over by its times.
    stored = State.ACTIVE if state is State.EXPIRED and wire.text else state
    memory = Memory(
        tenant=principal.tenant,
        user=names.user_name(ids[0]),
        memory_id=ids[1],
        type=MemoryType(wire.type),
        text=wire.text,
        question=wire.question,
        subject_key=wire.subject_key,
        visibility=Visibility(wire.visibility or Visibility.PRIVATE),
        create_time=create_time,
        update_time=update_time,
        conversation=wire.conversation,
        importance=wire.importance or DEFAULT_IMPORTANCE,
        valid_start_time=times["valid_start_time"],
        valid_end_time=times["valid_end_time"],
        expire_time=times["expire_time"],
        # Not exported: what gave way changed last when it did.
        live_end_time=None if stored in LIVE_STATES else update_time,
        labels=dict(wire.labels),
        state=stored,
        feedback_event=wire.feedback_event,
        generation=wire.generation,
        lesson=wire.lesson,
        author=wire.author,
        superseded_by=wire.superseded_by,
        retired_by_revision=wire.retired_by_revision,
        duplicate_count=wire.duplicate_count,
        embedding_model=wire.embedding_model,
        counters=counters,
        vector=tuple(request.vector),
    )
    return with_keys(memory)


_TIMES = (
    "create_time",
    "update_time",
    "valid_start_time",
    "valid_end_time",
    "expire_time",
)
_ENDS = ("expire_time", "valid_end_time")


def _state(found: Violations, wire: memory_pb2.Memory) -> State:
    number = int(wire.state) or int(State.ACTIVE)
    allowed = ", ".join(state.name for state in _IMPORTED_STATES)
    is_known = number in [int(state) for state in _IMPORTED_STATES]
    found.check(is_known, "memory.state", f"must be one of {allowed}")
    return State(number) if is_known else State.ACTIVE


def _check_content(found: Violations, wire: memory_pb2.Memory, *, is_swept: bool) -> None:
    types = [int(kind) for kind in MemoryType]
    found.check(int(wire.type) in types, "memory.type", "must be a type of memory")
    if wire.text or not is_swept:
        checks.check_text(found, "memory.text", wire.text, MAX_TEXT_BYTES)
        if int(wire.type) == MemoryType.CORRECTION or wire.question:
            checks.check_text(found, "memory.question", wire.question, MAX_QUESTION_BYTES)
    for field, value in (("text", wire.text), ("question", wire.question)):
        checks.check_plain(found, f"memory.{field}", value)
    checks.check_size(found, "memory.subject_key", wire.subject_key, MAX_SUBJECT_KEY_BYTES)
    checks.check_plain(found, "memory.subject_key", wire.subject_key)
    is_known = int(wire.visibility) in (0, *map(int, Visibility))
    found.check(is_known, "memory.visibility", "must be PRIVATE or SHARED")
    is_bounded = isfinite(wire.importance) and 0 <= wire.importance <= 1
    found.check(is_bounded, "memory.importance", "must be 0 to 1")
    found.check(wire.duplicate_count >= 0, "memory.duplicate_count", "must not be negative")


def _check_labels_and_names(found: Violations, wire: memory_pb2.Memory) -> None:
    checks.check_labels(found, "memory.labels", wire.labels)
    for field, pattern in _NAMES.items():
        checks.check_name(found, f"memory.{field}", pattern, getattr(wire, field))
    for field, limit in (("author", MAX_AUTHOR_BYTES), ("embedding_model", MAX_MODEL_BYTES)):
        value = getattr(wire, field)
        checks.check_size(found, f"memory.{field}", value, limit)
        checks.check_plain(found, f"memory.{field}", value)


def _counters(found: Violations, wire: memory_pb2.Memory) -> Counters:
    counters = wire.counters
    numbers = {
        field: getattr(counters, field)
        for field in ("retrieved_count", "injected_count", "agreed_count", "disagreed_count")
    }
    for field, number in numbers.items():
        is_bounded = 0 <= number <= MAX_COUNT
        found.check(is_bounded, f"memory.counters.{field}", f"must be 0 to {MAX_COUNT}")
    last = checks.time_of(found, counters, "last_use_time", "memory.counters.last_use_time")
    return Counters(**numbers, last_use_time=last)
