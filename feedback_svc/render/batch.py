"""What became of each signal of a batch, in a reply that always fits into a message."""

from collections.abc import Mapping

from feedback_svc import core
from feedback_svc.paging import MAX_PAGE_BYTES
from feedback_svc.render.events import render_event
from selm import consistency, streams
from selm.api.feedback.v1.feedback_event_pb2 import FeedbackEvent
from selm.api.feedback.v1.feedback_service_pb2 import (
    BatchCreateFeedbackEventsResponse,
    FeedbackEventResult,
)
from selm.errors import SelmError, to_failure


def render_batch(
    outcomes: Mapping[int, core.FeedbackRecord | SelmError],
) -> BatchCreateFeedbackEventsResponse:
    """In the order of the requests; the token covers every one recorded."""
    response = BatchCreateFeedbackEventsResponse()
    newest = 0
    for _, outcome in sorted(outcomes.items(), key=lambda item: item[0]):
        if isinstance(outcome, SelmError):
            response.results.append(FeedbackEventResult(failure=to_failure(outcome)))
            continue
        newest = max(newest, outcome.sequence)
        response.results.append(FeedbackEventResult(feedback_event=render_event(outcome)))
    if response.ByteSize() > MAX_PAGE_BYTES:
        for result in response.results:
            _shorten(result.feedback_event)
    response.consistency_token = consistency.encode(streams.FEEDBACK.name, newest)
    return response


def _shorten(event: FeedbackEvent) -> None:
    """Without the caller's own words: a reply that is lost whole would tell nobody what is kept."""
    event.ClearField("signal")
    event.ClearField("labels")
