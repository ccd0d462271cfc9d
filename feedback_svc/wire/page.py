"""Where a list or a stream of answers goes on: tokens that fit their query alone."""

from typing import Any, TypeVar

from feedback_svc.paging import Order, Page
from selm import pages
from selm.errors import SelmError, Violations

W = TypeVar("W")
P = TypeVar("P")

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500


def parse_page(
    found: Violations, request: Any, tenant: str, wanted: W, order: Order[P]
) -> Page[W, P]:
    """The page that a list request asks for; raises whatever was `found` wrong with it."""
    found.check(request.page_size >= 0, "page_size", "must not be negative")
    found.raise_if_any()
    size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    digest = query_digest(request, tenant)
    if not request.page_token:
        return Page(wanted, size, None, order, digest)
    first, _, name = pages.decode(request.page_token, digest).partition("/")
    return Page(wanted, size, (order.read(first), name), order, digest)


def query_digest(request: Any, tenant: str) -> str:
    """Of what is asked for, wherever it goes on and however large the page."""
    query = type(request)()
    query.CopyFrom(request)
    for field in ("page_size", "page_token", "resume_token"):
        if field in query.DESCRIPTOR.fields_by_name:
            query.ClearField(field)
    what = query.SerializeToString(deterministic=True).hex()
    return pages.digest(request.DESCRIPTOR.name, tenant, what)


def resumed(token: str, digest: str) -> str:
    """The cursor of a resume token; "" if there is none."""
    try:
        return pages.decode(token, digest) if token else ""
    except SelmError as error:
        raise SelmError(
            error.reason,
            "the resume token is malformed, altered, or of another query",
            metadata={"field": "resume_token"},
        ) from error
