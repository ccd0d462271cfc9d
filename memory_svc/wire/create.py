"""CreateMemory and BatchCreateMemories to core: drafts of what a caller wants stored."""

from dataclasses import replace
from datetime import datetime, timedelta

from memory_svc.core import Memory, memory_id_of
from memory_svc.wire.checks import check_owner, check_request_id
from memory_svc.wire.content import MemoryFields
from selm import names
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.auth import Principal
from selm.errors import Violations

MAX_BATCH = 500
# The reply holds all of it and a little more, and a message has 4 MiB.
MAX_BYTES = 3 * 1024 * 1024
# A hundred years: beyond it a ttl is a mistake, and dates end.
MAX_TTL = timedelta(days=36_500)


def parse_create(request: pb.CreateMemoryRequest, principal: Principal, now: datetime) -> Memory:
    """The memory that a caller wants stored."""
    found = Violations()
    user = check_owner(found, request.parent)
    draft = _draft(found, request, "", principal, now)
    check_request_id(found, request.request_id)
    found.raise_if_any()
    return _with_id(replace(draft, user=user), request.request_id)


def parse_batch(
    request: pb.BatchCreateMemoriesRequest, principal: Principal, now: datetime
) -> list[Memory]:
    """The memories of one owner that a caller wants stored, in order."""
    found = Violations()
    user = check_owner(found, request.parent)
    check_request_id(found, request.request_id)
    _check_number(found, request)
    drafts = []
    for index, item in enumerate(request.requests):
        path = f"requests[{index}]."
        is_own = item.parent in ("", request.parent)
        found.check(is_own, f"{path}parent", "must be empty or the parent of the batch")
        found.check(not item.request_id, f"{path}request_id", "must be unset: the batch has one")
        # One after the other, so that a list shows them in order.
        time = now + timedelta(microseconds=index)
        drafts.append(_draft(found, item, path, principal, time))
    found.raise_if_any()
    batch_id = request.request_id
    return [
        _with_id(replace(draft, user=user), f"{batch_id}/{index}" if batch_id else "")
        for index, draft in enumerate(drafts)
    ]


def _check_number(found: Violations, request: pb.BatchCreateMemoriesRequest) -> None:
    """Nothing else is looked at if there are too many."""
    number, size = len(request.requests), request.ByteSize()
    is_fit = found.check(0 < number <= MAX_BATCH, "requests", f"{number}, must be 1 to {MAX_BATCH}")
    is_fit &= found.check(size <= MAX_BYTES, "requests", f"{size} bytes, at most {MAX_BYTES}")
    if not is_fit:
        found.raise_if_any()


def _draft(
    found: Violations,
    request: pb.CreateMemoryRequest,
    path: str,
    principal: Principal,
    now: datetime,
) -> Memory:
    fields = MemoryFields(found, request.memory, f"{path}memory")
    valid_start_time, valid_end_time = fields.validity(now)
    return Memory(
        tenant=principal.tenant,
        user="",
        memory_id="",
        type=fields.type(),
        text=fields.text(),
        question=fields.question(),
        subject_key=fields.subject_key(),
        visibility=fields.visibility(),
        conversation=fields.conversation(),
        importance=fields.importance(),
        valid_start_time=valid_start_time,
        valid_end_time=valid_end_time,
        expire_time=_expire_time(found, request, fields, path, now),
        labels=fields.labels(),
        generation=fields.generation(),
        author=principal.subject,
        create_time=now,
        update_time=now,
    )


def _with_id(draft: Memory, request_id: str) -> Memory:
    repeated_id = memory_id_of(draft.tenant, draft.user, request_id)
    memory_id = repeated_id if request_id else names.new_id()
    return replace(draft, memory_id=memory_id, request_id=request_id)


def _expire_time(
    found: Violations,
    request: pb.CreateMemoryRequest,
    fields: MemoryFields,
    path: str,
    now: datetime,
) -> datetime | None:
    expire_time = fields.expire_time(now)
    if not request.HasField("ttl"):
        return expire_time
    found.check(expire_time is None, f"{path}ttl", "not together with memory.expire_time")
    seconds = request.ttl.seconds + request.ttl.nanos / 1e9
    is_bounded = 0 < seconds <= MAX_TTL.total_seconds()
    if not found.check(is_bounded, f"{path}ttl", "above 0, up to 100 years"):
        return None
    return now + timedelta(seconds=seconds)
