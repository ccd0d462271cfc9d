"""The faults of both directions now, and how to wait for something while they may change."""

import asyncio
import random
from collections.abc import Callable

from tests.chaos_proxy.faults import SOUND, Direction, Fault


class Weather:
    """Shared by all connections of one proxy; its event loop alone may touch it."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self._faults = {Direction.UP: SOUND, Direction.DOWN: SOUND}
        self._changed = asyncio.Event()

    def __getitem__(self, direction: Direction) -> Fault:
        return self._faults[direction]

    @property
    def is_hiding_the_target(self) -> bool:
        """A new connection would get no answer."""
        return any(fault.is_swallowing or fault.is_holding for fault in self._faults.values())

    @property
    def is_hiding_ends(self) -> bool:
        """Somebody may not hear of an end, be it a FIN or an RST."""
        return any(fault.hides_end for fault in self._faults.values())

    def change(self, up: Fault, down: Fault) -> None:
        self._faults = {Direction.UP: up, Direction.DOWN: down}
        self._changed.set()
        self._changed = asyncio.Event()

    async def pause(self, seconds: float | None) -> None:
        """Wait so long, or until something changes if that comes first."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait, for ever if need be, until a change makes it so."""
        while not is_so():
            await self.pause(None)
