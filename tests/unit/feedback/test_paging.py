"""Pages of a list: everything once, in replies that fit, with tokens of their query alone."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_svc.paging import MAX_PAGE_BYTES, fitting
from feedback_svc.wire.lists import parse_list_events
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.feedback_service_pb2 import ListFeedbackEventsRequest
from selm.errors import InvalidFields, SelmError

TENANT = "acme"
LARGE = "x" * (MAX_PAGE_BYTES // 2)


def event(sequence: int, text: str = "") -> pb.FeedbackEvent:
    comment = pb.Comment(text=text)
    return pb.FeedbackEvent(name=f"feedbackEvents/e{sequence}", sequence=sequence, comment=comment)


def pages_of(events: list[pb.FeedbackEvent], *sizes: int) -> Iterator[list[pb.FeedbackEvent]]:
    """Every page of a list, newest first; their sizes take turns."""
    token, number = "", 0
    while True:
        request = ListFeedbackEventsRequest(page_size=sizes[number % len(sizes)], page_token=token)
        page = parse_list_events(request, TENANT)
        start = page.start
        rest = [e for e in reversed(events) if start is None or (e.sequence, e.name) < start]
        served, token = page.of(rest[: page.limit], lambda one: one)
        yield served
        number += 1
        if not token:
            return


@given(st.integers(0, 40), st.lists(st.integers(1, 12), min_size=1, max_size=3))
def test_every_one_is_served_once_whatever_the_sizes(number: int, sizes: list[int]) -> None:
    events = [event(sequence) for sequence in range(1, number + 1)]
    pages = list(pages_of(events, *sizes))
    assert [one for page in pages for one in page] == events[::-1]
    assert not number or all(pages)


def test_a_page_ends_where_the_reply_is_full() -> None:
    events = [event(1), event(2, LARGE), event(3, LARGE), event(4)]
    assert [[e.sequence for e in page] for page in pages_of(events, 10)] == [[4, 3], [2, 1]]


def test_one_that_is_too_large_stands_alone() -> None:
    assert len(fitting([event(1, LARGE * 3)] * 5)) == 1
    assert fitting([]) == []


@pytest.mark.parametrize(
    ("tenant", "adapter"), [("other", ""), (TENANT, "adapters/towns")], ids=["tenant", "filter"]
)
def test_a_token_fits_no_other_query(tenant: str, adapter: str) -> None:
    page = parse_list_events(ListFeedbackEventsRequest(page_size=1), TENANT)
    _, token = page.of([event(2), event(1)], lambda one: one)
    request = ListFeedbackEventsRequest(
        page_token=token, filter=pb.FeedbackFilter(adapter=adapter) if adapter else None
    )
    with pytest.raises(SelmError) as caught:
        parse_list_events(request, tenant)
    assert caught.value.reason == "CURSOR_INVALID"


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (7, 7), (501, 500)])
def test_a_page_is_bounded(asked: int, size: int) -> None:
    assert parse_list_events(ListFeedbackEventsRequest(page_size=asked), TENANT).size == size


def test_a_negative_size_is_told_with_the_rest() -> None:
    wrong = pb.FeedbackFilter(first_sequence=-1)
    with pytest.raises(InvalidFields) as caught:
        parse_list_events(ListFeedbackEventsRequest(page_size=-1, filter=wrong), TENANT)
    assert {v.field for v in caught.value.violations} == {"page_size", "filter.first_sequence"}
