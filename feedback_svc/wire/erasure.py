"""Requests of ErasureService in the words of core."""

from datetime import datetime

from feedback_svc import core
from feedback_svc.forgetting import ForgetWish
from feedback_svc.paging import BY_CREATE_TIME, Page
from feedback_svc.wire.checks import check_name, parse_reason, request_key
from feedback_svc.wire.page import parse_page
from selm import names
from selm.api.ops.v1 import erasure_service_pb2 as pb
from selm.api.ops.v1.erasure_pb2 import Erasure
from selm.errors import Violations

_STATES = frozenset({Erasure.STATE_RUNNING, Erasure.STATE_COMPLETED})


def parse_forget(request: pb.ForgetUserRequest) -> tuple[ForgetWish, core.RequestKey | None]:
    found = Violations()
    check_name(found, names.USER, request.user, "user", required=True)
    is_one = request.user != names.EVERY_USER
    found.check(is_one, "user", "must be one user, not all of them")
    reason = parse_reason(found, "reason", request.reason)
    asked = pb.ForgetUserRequest(user=request.user, reason=request.reason)
    content = asked.SerializeToString(deterministic=True)
    key = request_key("ForgetUser", request.request_id, content, found)
    found.raise_if_any()
    return ForgetWish(request.user, reason), key


def parse_list(request: pb.ListErasuresRequest, tenant: str) -> Page[bool | None, datetime]:
    """Whether they shall be completed; None for both."""
    found, states = Violations(), frozenset(request.states)
    found.check(states <= _STATES, "states", "must be RUNNING or COMPLETED")
    is_completed = Erasure.STATE_COMPLETED in states if len(states) == 1 else None
    return parse_page(found, request, tenant, is_completed, BY_CREATE_TIME)
