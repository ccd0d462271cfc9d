"""Patience: repeating calls through an outage, and what the client saw of outages meanwhile.

Does not know which calls are safe to repeat; whoever calls `through` does.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from selm.errors import SelmError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0

Result = TypeVar("Result")


def is_outage(error: SelmError) -> bool:
    """True if the server was away or not ready: the same call may succeed later, unchanged."""
    return error.code == grpc.StatusCode.UNAVAILABLE


@dataclass
class Patience:
    """Repeats what answers UNAVAILABLE until `limit_s` after it was first sent; counts the repeats.

    The last repeat begins when patience ends. What breaks after more time than that under way, such
    as a long answer, gets the whole patience from there.
    """

    limit_s: float
    num_repeats: int = 0
    on_outage: Callable[[SelmError], None] | None = None

    async def through(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        """Runs the operation until it succeeds, fails for another reason, or patience ends."""
        wait = self.start()
        while True:
            sent = time.monotonic()
            try:
                return await operation()
            except SelmError as error:
                await wait.after(error, sent)

    async def watching(
        self, open_stream: Callable[[], AsyncIterator[Result]]
    ) -> AsyncIterator[Result]:
        """Yields from a stream that starts at the present, opening it again when it breaks."""
        wait = self.start()
        while True:
            try:
                async for frame in open_stream():
                    # Frames flow again, so the next outage gets the whole patience.
                    wait = self.start()
                    yield frame
                return
            except SelmError as error:
                await wait.after(error)

    def start(self) -> "Wait":
        """Begins one outage's worth of patience."""
        return Wait(self)


class Wait:
    """The pauses of one outage: doubling, and never past the limit."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._pause_s = FIRST_PAUSE_S
        self._end: float | None = None

    async def after(self, error: SelmError, sent: float | None = None) -> None:
        """Sleeps until the next try; raises the error again if there is to be none."""
        now, limit_s = time.monotonic(), self._patience.limit_s
        if self._end is None:
            began = now if sent is None or now - sent >= limit_s else sent
            self._end = began + limit_s
        left_s = self._end - now
        if not is_outage(error) or left_s <= 0:
            raise error
        self._patience.num_repeats += 1
        if self._patience.on_outage is not None:
            self._patience.on_outage(error)
        pause_s = min(max(self._pause_s, error.retry_after_s or 0), LONGEST_PAUSE_S)
        await asyncio.sleep(min(pause_s, left_s))
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
