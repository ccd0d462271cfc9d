"""The event loop's end of one generation: a bounded buffer of deltas and the way to abort it.

Filled by the engine thread through the loop; knows no sequence and no model.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial

import structlog

from inference_svc.core import Delta, Ending
from selm.errors import SelmError

log = structlog.get_logger()

# One step's news for one generation: text, the end, or why it failed.
News = Delta | Ending | SelmError


class RunningGeneration:
    """Iterate for deltas, then read `ending`. A failed or aborted one raises from the iteration."""

    def __init__(self, abort: Callable[[SelmError | None], None], max_unread: int) -> None:
        self._abort = abort
        self._max_unread = max_unread
        self._news: deque[News] = deque()
        self._arrived = asyncio.Event()
        self._ending: Ending | None = None
        # Counted apart, each by one thread only: pushed by the engine, read by the loop.
        self.num_pushed = 0
        self.num_read = 0

    @property
    def ending(self) -> Ending:
        assert self._ending is not None, "read before the iteration was over"
        return self._ending

    @property
    def is_overfull(self) -> bool:
        """The reader is so far behind that the generation shall end; asked by the engine."""
        return self.num_pushed - self.num_read > self._max_unread

    def abort(self, error: SelmError | None = None) -> None:
        """Ends it within two steps; a reader, if any, gets the error. Over already: nothing."""
        self._abort(error)

    def deliver(self, news: News) -> None:
        """Called on the event loop."""
        self._news.append(news)
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        while True:
            while self._news:
                news = self._news.popleft()
                if isinstance(news, Delta):
                    self.num_read += 1
                    yield news
                elif isinstance(news, Ending):
                    self._ending = news
                    return
                else:
                    raise news
            self._arrived.clear()
            await self._arrived.wait()


class Outbox:
    """The engine thread's end: gathers the news of a step and hands them to the event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: list[tuple[RunningGeneration, News]] = []

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """To be called before the thread starts."""
        self._loop = loop

    def add(self, door: RunningGeneration, news: News) -> None:
        self._news.append((door, news))

    def deliver(self) -> None:
        """One call into the loop per step, however many rows have news."""
        if self._news:
            news, self._news = self._news, []
            self.call(partial(_hand_out, news))

    def call(self, work: Callable[[], None]) -> None:
        """Has the loop do something soon."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:
            # The loop is closed: nobody is left to tell.
            log.info("engine_loop_closed")


def _hand_out(news: list[tuple[RunningGeneration, News]]) -> None:
    for door, item in news:
        door.deliver(item)
