"""Pauses in long work without waiting, so that calls are served in between."""

import asyncio
import time

_EVERY_S = 0.005


class Pauses:
    """One piece of work, however many things it looks at."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def here(self) -> None:
        """Let others go first, if this has kept them waiting for some milliseconds."""
        if time.monotonic() - self._since >= _EVERY_S:
            await asyncio.sleep(0)
            self._since = time.monotonic()
