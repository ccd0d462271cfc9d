"""How far a stream was read, and those who wait for a sequence of it."""

import asyncio
import contextlib


class Position:
    """Moved by one reader, awaited by many."""

    def __init__(self) -> None:
        self.sequence = 0
        self.is_caught_up = asyncio.Event()
        self._moved = asyncio.Condition()

    async def move(self, sequence: int) -> None:
        async with self._moved:
            # Assigned, not maximised: a broker that lost its disk counts from 1 again.
            self.sequence = sequence
            self._moved.notify_all()

    async def reach(self, sequence: int, timeout_s: float) -> bool:
        """Wait until the stream was read up to there; False if that took too long."""
        if self.sequence >= sequence:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.sequence >= sequence)
                return True
        return False
