"""Protobuf to core: all request validation, every violated field reported at once."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isfinite

from memory_svc.core import (
    LIVE_STATES,
    Condition,
    Memory,
    MemoryType,
    State,
    Visibility,
    memory_id_of,
)
from memory_svc.search import Query
from memory_svc.wire_checks import (
    check_labels,
    check_name,
    check_parent,
    check_plain,
    check_request_id,
    check_size,
    check_text,
    states_of,
    time_of,
    types_of,
)
from selm import consistency, names, pages
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.api.memory.v1.memory_pb2 import Memory as WireMemory
from selm.api.memory.v1.search_pb2 import MemoryFilter
from selm.auth import Principal
from selm.errors import Violations

MAX_TEXT_BYTES = 8192
MAX_QUESTION_BYTES = 4096
MAX_QUERY_BYTES = 8192
MAX_SUBJECT_KEY_BYTES = 256
MAX_RESULTS = 100
DEFAULT_RESULTS = 5
MAX_PAGE_SIZE = 500
DEFAULT_PAGE_SIZE = 50
# A hundred years: beyond it a ttl is a mistake, and dates end.
MAX_TTL = timedelta(days=36_500)
_LISTED_STATES = (State.ACTIVE, State.SUPERSEDED, State.RETIRED, State.EXPIRED)


@dataclass(frozen=True)
class Search:
    """A search, and the event of FEEDBACK that it must see; 0 for none."""

    query: Query
    wanted_sequence: int


@dataclass(frozen=True)
class Page:
    """One page of a list."""

    condition: Condition
    size: int
    before: tuple[datetime, str] | None
    digest: str

    def token_after(self, memory: Memory) -> str:
        """Token of the page that begins after a memory."""
        cursor = f"{memory.create_time.isoformat()}/{memory.memory_id}"
        return pages.encode(self.digest, cursor)


def parse_create(request: pb.CreateMemoryRequest, principal: Principal, now: datetime) -> Memory:
    """The memory that a caller wants stored."""
    found, wire = Violations(), request.memory
    user = check_parent(found, request.parent)
    _check_content(found, wire)
    check_name(found, "memory.conversation", names.CONVERSATION, wire.conversation)
    check_name(found, "memory.generation", names.GENERATION, wire.generation)
    check_labels(found, "memory.labels", wire.labels)
    expire_time = _expire_time(found, request, now)
    check_request_id(found, request.request_id)
    found.raise_if_any()
    repeated_id = memory_id_of(principal.tenant, user, request.request_id)
    return Memory(
        tenant=principal.tenant,
        user=user,
        memory_id=repeated_id if request.request_id else names.new_id(),
        type=MemoryType(wire.type),
        text=wire.text,
        question=wire.question,
        subject_key=wire.subject_key,
        visibility=Visibility(wire.visibility or Visibility.PRIVATE),
        conversation=wire.conversation,
        expire_time=expire_time,
        labels=dict(wire.labels),
        generation=wire.generation,
        author=principal.subject,
        create_time=now,
        update_time=now,
        request_id=request.request_id,
    )


def parse_name(name: str) -> tuple[str, str]:
    """User and memory id in a name."""
    return _parse_name(Violations(), name)


def parse_delete(request: pb.DeleteMemoryRequest) -> tuple[str, str]:
    """User and memory id. A repeat needs no ledger: it changes nothing anyway."""
    found = Violations()
    check_request_id(found, request.request_id)
    return _parse_name(found, request.name)


def parse_list(request: pb.ListMemoriesRequest, principal: Principal, now: datetime) -> Page:
    """One page of an owner's memories."""
    found = Violations()
    user = check_parent(found, request.parent)
    base = Condition(principal.tenant, user=user, at=now)
    condition = _condition(found, request.filter, base, _LISTED_STATES)
    found.check(request.page_size >= 0, "page_size", "must not be negative")
    found.raise_if_any()
    wanted = request.filter.SerializeToString(deterministic=True).hex()
    digest = pages.digest("memories", principal.tenant, user, wanted)
    before = None
    if request.page_token:
        time, _, memory_id = pages.decode(request.page_token, digest).partition("/")
        before = (datetime.fromisoformat(time), memory_id)
    size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    return Page(condition, size, before, digest)


def parse_search(request: pb.SearchMemoriesRequest, principal: Principal, now: datetime) -> Search:
    """What is looked for, among own memories and those shared in the tenant."""
    found = Violations()
    user = check_parent(found, request.parent)
    check_text(found, "query", request.query, MAX_QUERY_BYTES)
    is_bounded = 0 <= request.max_results <= MAX_RESULTS
    found.check(is_bounded, "max_results", f"must be 0 to {MAX_RESULTS}")
    score = request.min_score
    found.check(isfinite(score) and 0 <= score <= 1, "min_score", "must be 0 to 1")
    visible = Condition(principal.tenant, user=user, with_shared=True, states=LIVE_STATES, at=now)
    condition = _condition(found, request.filter, visible, LIVE_STATES)
    found.raise_if_any()
    query = Query(
        text=request.query,
        visible=visible,
        condition=replace(condition, with_shared=not request.filter.exclude_shared),
        max_results=request.max_results or DEFAULT_RESULTS,
        min_score=score,
    )
    token = request.consistency_token
    return Search(query, consistency.decode(token) if token else 0)


def _parse_name(found: Violations, name: str) -> tuple[str, str]:
    ids = names.parse(names.MEMORY, name)
    found.check(ids is not None, "name", f"must be {names.MEMORY}")
    found.raise_if_any()
    assert ids is not None
    return names.user_name(ids[0]), ids[1]


def _check_content(found: Violations, wire: WireMemory) -> None:
    types_of(found, "memory.type", [wire.type])
    check_text(found, "memory.text", wire.text, MAX_TEXT_BYTES)
    check_plain(found, "memory.text", wire.text)
    if int(wire.type) == MemoryType.CORRECTION or wire.question:
        check_text(found, "memory.question", wire.question, MAX_QUESTION_BYTES)
    check_plain(found, "memory.question", wire.question)
    check_size(found, "memory.subject_key", wire.subject_key, MAX_SUBJECT_KEY_BYTES)
    check_plain(found, "memory.subject_key", wire.subject_key)
    is_known = wire.visibility in (0, *map(int, Visibility))
    found.check(is_known, "memory.visibility", "must be PRIVATE or SHARED")


def _expire_time(
    found: Violations, request: pb.CreateMemoryRequest, now: datetime
) -> datetime | None:
    expire_time = time_of(found, request.memory, "expire_time", "memory.expire_time")
    if request.HasField("ttl"):
        found.check(expire_time is None, "ttl", "not together with memory.expire_time")
        seconds = request.ttl.seconds + request.ttl.nanos / 1e9
        if found.check(0 < seconds <= MAX_TTL.total_seconds(), "ttl", "above 0, up to 100 years"):
            return now + timedelta(seconds=seconds)
    if expire_time is not None:
        found.check(expire_time > now, "memory.expire_time", "must be in the future")
    return expire_time


def _condition(
    found: Violations, wanted: MemoryFilter, base: Condition, allowed: tuple[State, ...]
) -> Condition:
    check_size(found, "filter.subject_key", wanted.subject_key, MAX_SUBJECT_KEY_BYTES)
    check_name(found, "filter.conversation", names.CONVERSATION, wanted.conversation)
    start = time_of(found, wanted, "start_create_time", "filter.start_create_time")
    end = time_of(found, wanted, "end_create_time", "filter.end_create_time")
    if start is not None and end is not None:
        found.check(start < end, "filter.end_create_time", "must be after start_create_time")
    return replace(
        base,
        states=states_of(found, "filter.states", wanted.states, allowed),
        types=types_of(found, "filter.types", wanted.types),
        subject_key=wanted.subject_key,
        conversation=wanted.conversation,
        start_create_time=start,
        end_create_time=end,
    )
