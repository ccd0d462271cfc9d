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
    """Repeats what answers UNAVAILABLE, for at most `limit_s` per outage; counts every repeat."""

    limit_s: float
    num_repeats: int = 0
    on_outage: Callable[[SelmError], None] | None = None

    async def through(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        """Runs the operation until it succeeds, fails for another reason, or patience ends."""
        wait = self.start()
        while True:
            try:
                return await operation()
            except SelmError as error:
                await wait.after(error)

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
        self._first_failure: float | None = None

    async def after(self, error: SelmError) -> None:
        """Sleeps until the next try; raises the error again if there is to be none."""
        now = time.monotonic()
        if self._first_failure is None:
            self._first_failure = now
        if not is_outage(error) or now - self._first_failure >= self._patience.limit_s:
            raise error
        self._patience.num_repeats += 1
        if self._patience.on_outage is not None:
            self._patience.on_outage(error)
        await asyncio.sleep(min(max(self._pause_s, error.retry_after_s or 0), LONGEST_PAUSE_S))
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
