"""Page tokens: opaque, and bound to their query and deployment."""

import pytest

from selm import pages
from selm.errors import SelmError


def test_a_token_gives_back_its_cursor() -> None:
    """The next page starts where the last one ended."""
    query = pages.digest("default", "users/ana", "")

    assert pages.decode(pages.encode(query, "memories/ü7"), query) == "memories/ü7"


@pytest.mark.parametrize(
    "spoil", [lambda t: t[:-2], lambda t: "A" + t[1:], lambda t: "ä", lambda t: "="]
)
def test_an_altered_token_is_refused(spoil) -> None:
    """A token is not a place to write one's own cursor."""
    token = pages.encode("q", "cursor")
    with pytest.raises(SelmError) as caught:
        pages.decode(spoil(token), "q")

    assert caught.value.reason == "CURSOR_INVALID"
    assert caught.value.metadata == {"field": "page_token"}


def test_a_token_of_another_query_is_refused() -> None:
    """A token of one tenant's query opens nothing in another's."""
    token = pages.encode(pages.digest("a", "bc"), "cursor")
    with pytest.raises(SelmError):
        pages.decode(token, pages.digest("ab", "c"))


def test_a_token_of_another_deployment_is_refused() -> None:
    """The key belongs to the deployment."""
    token = pages.encode("q", "cursor")
    pages.configure("another key")
    try:
        with pytest.raises(SelmError):
            pages.decode(token, "q")
    finally:
        pages.configure(pages.DEVELOPMENT_KEY)
