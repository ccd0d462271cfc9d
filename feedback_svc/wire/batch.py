"""Many signals in one request, each checked on its own."""

from datetime import datetime

from feedback_svc.batches import Item
from feedback_svc.wire.create import parse_create
from selm.api.feedback.v1.feedback_service_pb2 import BatchCreateFeedbackEventsRequest
from selm.errors import FieldViolation, InvalidFields, SelmError, Violations

MAX_ITEMS = 500


def parse_batch(
    request: BatchCreateFeedbackEventsRequest, now: datetime
) -> tuple[list[Item], dict[int, SelmError]]:
    """What can be recorded, and by index what is wrong with the rest."""
    found = Violations()
    is_fit = 1 <= len(request.requests) <= MAX_ITEMS
    found.check(is_fit, "requests", f"1 to {MAX_ITEMS}")
    found.raise_if_any()
    items: list[Item] = []
    refused: dict[int, SelmError] = {}
    for index, one in enumerate(request.requests):
        try:
            draft, key = parse_create(one, now)
            if key is None:
                # Without it nobody could repeat the batch and have each signal count once.
                raise InvalidFields([FieldViolation("request_id", "required in a batch")])
        except InvalidFields as error:
            refused[index] = error
        else:
            items.append(Item(index, draft, key))
    return items, refused
