"""How many resources fit into one reply."""

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

# A message has 4 MiB; this leaves room for framing and the page token.
MAX_PAGE_BYTES = 3 * 1024 * 1024

M = TypeVar("M", bound=Message)


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
