"""Requests of LearningService about training requests, in the words of core."""

from dataclasses import dataclass
from datetime import datetime

from feedback_svc import core, learning
from feedback_svc.wire.checks import (
    check_name,
    check_reason,
    cursor_of,
    page_size_of,
    request_key,
)
from selm import names, pages
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.learning_service_pb2 import (
    CancelTrainingRequestRequest,
    CreateTrainingRequestRequest,
    ListTrainingRequestsRequest,
    UpdateTrainingRequestRequest,
)
from selm.errors import Violations
from selm.lesson_events import datetime_of

MAX_PRIORITY = 10
_PRIORITY_MASKS = frozenset({"priority", "*"})


@dataclass(frozen=True)
class RequestPage:
    """One page of training requests."""

    wanted: learning.RequestFilter
    size: int
    before: tuple[datetime, str] | None
    digest: str

    def token_after(self, request: TrainingRequest) -> str:
        time = datetime_of(request.create_time)
        return pages.encode(self.digest, f"{time.isoformat()}/{request.name}")


def parse_training_request(
    request: CreateTrainingRequestRequest,
) -> tuple[learning.TrainingWish, core.RequestKey | None]:
    wish, found = request.training_request, Violations()
    check_name(found, names.ADAPTER, wish.adapter, "training_request.adapter", required=True)
    check_reason(found, "training_request.reason", wish.reason)
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
    return learning.TrainingWish(wish.adapter, wish.from_base, wish.reason, wish.priority), key


def parse_list_requests(request: ListTrainingRequestsRequest, tenant: str) -> RequestPage:
    found = Violations()
    check_name(found, names.ADAPTER, request.adapter, "adapter")
    states = [
        state for state in request.states if state and state in TrainingRequest.State.values()
    ]
    found.check(len(states) == len(request.states), "states", "must be published values")
    size = page_size_of(found, request.page_size)
    found.raise_if_any()
    digest = pages.digest("training_requests", tenant, request.adapter, sorted(set(states)))
    before = None
    if cursor := cursor_of(request.page_token, digest):
        time, _, name = cursor.partition("/")
        before = (datetime.fromisoformat(time), name)
    wanted = learning.RequestFilter(
        adapter=request.adapter,
        states=frozenset(
            learning.RequestState(TrainingRequest.State.Name(state).removeprefix("STATE_"))
            for state in states
        ),
    )
    return RequestPage(wanted, size, before, digest)


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
