"""MemoryAdminService requests to core: validation, and the place where an export goes on.

Unlike a search, these leave nothing out unasked: an unset state or conversation is any, so that an
erasure reaches what a reader no longer sees.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from memory_svc.conditions import Condition
from memory_svc.core import State
from memory_svc.wire.checks import check_owner, check_parent, check_request_id
from memory_svc.wire.filters import parse_filter
from selm import names, pages
from selm.api.memory.v1 import memory_admin_service_pb2 as pb
from selm.api.memory.v1.search_pb2 import MemoryFilter
from selm.auth import Principal
from selm.errors import SelmError, Violations

KEPT_STATES = (State.ACTIVE, State.SUPERSEDED, State.RETIRED, State.EXPIRED)


@dataclass(frozen=True)
class Purge:
    """What is to be deleted, or only counted."""

    condition: Condition
    force: bool
    request_id: str
    # Fingerprint of what was asked, for a repeat of the request_id.
    digest: str

    def until(self, time: datetime) -> Condition:
        """Only what was there at that time."""
        return _created_until(self.condition, time)


@dataclass(frozen=True)
class Export:
    """What is streamed, as of a time, and the key after which it goes on."""

    condition: Condition
    include_vectors: bool
    time: datetime
    after: str
    digest: str

    def token_after(self, key: str) -> str:
        """Resume token of the frame with that key."""
        return pages.encode(self.digest, f"{self.time.isoformat()}/{key}")


def parse_purge(request: pb.PurgeMemoriesRequest, principal: Principal, now: datetime) -> Purge:
    """One owner's memories, in every state unless the filter names some."""
    found = Violations()
    user = check_owner(found, request.parent)
    condition = _condition(found, request.filter, Condition(principal.tenant, user=user), now)
    check_request_id(found, request.request_id)
    found.raise_if_any()
    wanted = request.filter.SerializeToString(deterministic=True).hex()
    digest = pages.digest("purge", principal.tenant, user, wanted)
    return Purge(condition, request.force, request.request_id, digest)


def parse_stats(request: pb.GetMemoryStatsRequest, principal: Principal) -> Condition:
    """One owner's memories or, for the wildcard, the tenant's."""
    found = Violations()
    user = check_parent(found, request.parent)
    found.raise_if_any()
    return Condition(principal.tenant, user=None if user == names.EVERY_USER else user)


def parse_export(request: pb.ExportMemoriesRequest, principal: Principal, now: datetime) -> Export:
    """Memories as of the first call; a resumed one goes on where its token says."""
    found = Violations()
    user = check_parent(found, request.parent)
    base = Condition(principal.tenant, user=None if user == names.EVERY_USER else user)
    wanted = request.filter.SerializeToString(deterministic=True).hex()
    digest = pages.digest("export", principal.tenant, user, wanted)
    time, after = now, ""
    if request.resume_token:
        time, after = _resumed(request.resume_token, digest)
    condition = _condition(found, request.filter, base, time)
    found.raise_if_any()
    condition = _created_until(condition, time)
    return Export(condition, request.include_vectors, time, after, digest)


def _condition(
    found: Violations, wanted: MemoryFilter, base: Condition, now: datetime
) -> Condition:
    condition = parse_filter(found, wanted, base, KEPT_STATES)
    return replace(
        condition,
        at=now,
        states=condition.states if wanted.states else KEPT_STATES,
        conversation=wanted.conversation or None,
    )


def _created_until(condition: Condition, time: datetime) -> Condition:
    end = condition.end_create_time
    return replace(condition, end_create_time=time if end is None else min(end, time))


def _resumed(token: str, digest: str) -> tuple[datetime, str]:
    try:
        time, _, key = pages.decode(token, digest).partition("/")
    except SelmError as error:
        raise SelmError(
            error.reason,
            "the resume token is malformed, altered, or of another query",
            metadata={"field": "resume_token"},
        ) from error
    return datetime.fromisoformat(time), key
