"""The event loop's end of one generation: a bounded buffer of deltas and the way to abort it.

Filled by the engine thread through the loop; knows no sequence and no model.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from inference_svc.core import Delta, Ending
from selm.errors import SelmError

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
