"""Requests of LearningService about training requests, in the words of core."""

from datetime import datetime

from feedback_svc import core, learning
from feedback_svc.paging import BY_CREATE_TIME, Page
from feedback_svc.wire.checks import check_name, parse_reason, published, request_key
from feedback_svc.wire.page import parse_page
from selm import names
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.learning_service_pb2 import (
    CancelTrainingRequestRequest,
    CreateTrainingRequestRequest,
    ListTrainingRequestsRequest,
    UpdateTrainingRequestRequest,
)
from selm.errors import Violations

MAX_PRIORITY = 10
_PRIORITY_MASKS = frozenset({"priority", "*"})


def parse_training_request(
    request: CreateTrainingRequestRequest,
) -> tuple[learning.TrainingWish, core.RequestKey | None]:
    wish, found = request.training_request, Violations()
    check_name(found, names.ADAPTER, wish.adapter, "training_request.adapter", required=True)
    reason = parse_reason(found, "training_request.reason", wish.reason)
    _check_priority(found, wish.priority)
    asked = TrainingRequest(
        adapter=wish.adapter,
        from_base=wish.from_base,
        reason=wish.reason,
        priority=wish.priority,
    )
    content = asked.SerializeToString(deterministic=True)
    key = request_key("CreateTrainingRequest", request.request_id, content, found)
    found.raise_if_any()
    return learning.TrainingWish(wish.adapter, wish.from_base, reason, wish.priority), key


def parse_list_requests(
    request: ListTrainingRequestsRequest, tenant: str
) -> Page[learning.RequestFilter, datetime]:
    found = Violations()
    check_name(found, names.ADAPTER, request.adapter, "adapter")
    states = published(found, "states", request.states, TrainingRequest.State)
    wanted = learning.RequestFilter(
        adapter=request.adapter,
        states=frozenset(
            learning.RequestState(TrainingRequest.State.Name(state).removeprefix("STATE_"))
            for state in states
        ),
    )
    return parse_page(found, request, tenant, wanted, BY_CREATE_TIME)


def parse_update_request(
    request: UpdateTrainingRequestRequest,
) -> tuple[str, int | None, core.RequestKey | None]:
    """Name and new priority; None if the mask leaves it alone."""
    found, wire = Violations(), request.training_request
    check_name(found, names.TRAINING_REQUEST, wire.name, "training_request.name", required=True)
    paths = list(request.update_mask.paths)
    for path in paths:
        where = f"update_mask[{path[:64]}]"
        found.check(path in _PRIORITY_MASKS, where, "only priority may change")
    is_wanted = bool(paths) or wire.priority != 0
    if is_wanted:
        _check_priority(found, wire.priority)
    asked = TrainingRequest(name=wire.name, priority=wire.priority)
    content = f"{is_wanted}".encode() + asked.SerializeToString(deterministic=True)
    key = request_key("UpdateTrainingRequest", request.request_id, content, found)
    found.raise_if_any()
    return wire.name, wire.priority if is_wanted else None, key


def parse_cancel_request(
    request: CancelTrainingRequestRequest,
) -> tuple[str, core.RequestKey | None]:
    found = Violations()
    check_name(found, names.TRAINING_REQUEST, request.name, "name", required=True)
    key = request_key("CancelTrainingRequest", request.request_id, request.name.encode(), found)
    found.raise_if_any()
    return request.name, key


def _check_priority(found: Violations, priority: int) -> None:
    is_fit = -MAX_PRIORITY <= priority <= MAX_PRIORITY
    bounds = f"-{MAX_PRIORITY} to {MAX_PRIORITY}"
    found.check(is_fit, "training_request.priority", bounds)
