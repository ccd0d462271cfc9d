"""One page of a list: where it begins, what of it fits into one reply, the token of the next.

Knows protobuf messages, but no request and no resource.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from selm import pages
from selm.lesson_events import datetime_of

# A message has 4 MiB; this leaves room for framing and the page token.
MAX_PAGE_BYTES = 3 * 1024 * 1024

W = TypeVar("W")
P = TypeVar("P")
R = TypeVar("R")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Order(Generic[P]):
    """What a list is sorted by: the place of a message in it, and its first half in a token."""

    place_of: Callable[[Any], tuple[object, str]]
    read: Callable[[str], P]


def by_time(field: str) -> Order[datetime]:
    """By a timestamp of the resource, then by its name."""
    return Order(
        lambda message: (datetime_of(getattr(message, field)).isoformat(), message.name),
        datetime.fromisoformat,
    )


BY_CREATE_TIME = by_time("create_time")
BY_UPDATE_TIME = by_time("update_time")


@dataclass(frozen=True)
class Page(Generic[W, P]):
    """One page of what is wanted."""

    wanted: W
    size: int
    # The place at which the page before ended; None on the first page.
    start: tuple[P, str] | None
    order: Order[P]
    digest: str

    @property
    def limit(self) -> int:
        """How many to look for: one more than the page holds tells whether there is a next page."""
        return self.size + 1

    def of(self, found: Sequence[R], render: Callable[[R], M]) -> tuple[list[M], str]:
        """The messages of this page, and the token of the next; empty on the last."""
        page = fitting(map(render, found[: self.size]))
        if len(page) == len(found):
            return page, ""
        first, name = self.order.place_of(page[-1])
        return page, pages.encode(self.digest, f"{first}/{name}")


def fitting(messages: Iterable[M]) -> list[M]:
    """As many, from the first on, as one message may carry; at least one."""
    page: list[M] = []
    size = 0
    for message in messages:
        size += message.ByteSize() + 8
        if size > MAX_PAGE_BYTES and page:
            break
        page.append(message)
    return page
