"""Requests of ErasureService in the words of core."""

from datetime import datetime

from feedback_svc import core
from feedback_svc.forgetting import ErasurePage, ForgetWish
from feedback_svc.wire.checks import (
    check_name,
    check_reason,
    cursor_of,
    page_size_of,
    request_key,
)
from selm import names, pages
from selm.api.ops.v1 import erasure_service_pb2 as pb
from selm.api.ops.v1.erasure_pb2 import Erasure
from selm.erasures import Erasure as Found
from selm.errors import Violations

_STATES = frozenset({Erasure.STATE_RUNNING, Erasure.STATE_COMPLETED})


def parse_forget(request: pb.ForgetUserRequest) -> tuple[ForgetWish, core.RequestKey | None]:
    found = Violations()
    check_name(found, names.USER, request.user, "user", required=True)
    is_one = request.user != names.EVERY_USER
    found.check(is_one, "user", "must be one user, not all of them")
    check_reason(found, "reason", request.reason)
    asked = pb.ForgetUserRequest(user=request.user, reason=request.reason)
    content = asked.SerializeToString(deterministic=True)
    key = request_key("ForgetUser", request.request_id, content, found)
    found.raise_if_any()
    return ForgetWish(request.user, request.reason), key


def parse_list(request: pb.ListErasuresRequest, tenant: str) -> tuple[ErasurePage, str]:
    """The page that is wanted, and the query that its token belongs to."""
    found, states = Violations(), frozenset(request.states)
    size = page_size_of(found, request.page_size)
    found.check(states <= _STATES, "states", "must be RUNNING or COMPLETED")
    found.raise_if_any()
    is_completed = None
    if len(states) == 1:
        is_completed = Erasure.STATE_COMPLETED in states
    query = pages.digest("ListErasures", tenant, is_completed)
    time, _, name = cursor_of(request.page_token, query).partition("|")
    before = (datetime.fromisoformat(time), name) if time else None
    return ErasurePage(size, before, is_completed), query


def next_token(erasures: list[Found], page: ErasurePage, query: str) -> str:
    """The token of the page after `page.limit` of these; empty if there are no more."""
    if len(erasures) <= page.limit:
        return ""
    last = erasures[page.limit - 1].order
    return pages.encode(query, f"{last.time.isoformat()}|{last.name}")
