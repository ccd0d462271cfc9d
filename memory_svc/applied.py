"""How far memory has applied the FEEDBACK stream, and waiting for a place in it.

A token is reached if its own event was applied here, or if the durable consumer of all replicas has
acknowledged everything up to it. Knows no broker: it is told.
"""

import asyncio
from collections.abc import Awaitable, Callable

from selm.errors import SelmError, unavailable
from selm.log import get_logger

_log = get_logger("memory.applied")

# How often the consumer is asked while someone waits: another replica may apply the event.
_ASK_INTERVAL_S = 0.1
_FOLLOW_INTERVAL_S = 2.0


class AppliedEvents:
    """Sequences of FEEDBACK that are visible to searches."""

    def __init__(self, ask_floor: Callable[[], Awaitable[int]]) -> None:
        self._ask_floor = ask_floor
        self._floor = 0
        self._above: set[int] = set()
        self._changed = asyncio.Event()

    @property
    def floor(self) -> int:
        """Everything up to here is applied."""
        return self._floor

    def note(self, sequence: int) -> None:
        """One event is applied."""
        if sequence > self._floor:
            self._above.add(sequence)
        while self._floor + 1 in self._above:
            self._floor += 1
            self._above.remove(self._floor)
        self._tell()

    def raise_floor(self, sequence: int) -> None:
        """Everything up to there is applied, by whatever replica, or is no longer stored."""
        if sequence <= self._floor:
            return
        self._above = {above for above in self._above if above > sequence}
        self._floor = sequence
        self.note(sequence)

    def has(self, sequence: int) -> bool:
        return sequence <= self._floor or sequence in self._above

    async def follow(self) -> None:
        """Runs until cancelled: asks for the floor now and then. After a start it is unknown, and
        where messages were purged the next one never comes."""
        while True:
            if self._floor == 0 or self._above:
                await self._ask(_FOLLOW_INTERVAL_S)
            await asyncio.sleep(_FOLLOW_INTERVAL_S)

    async def wait_for(self, sequence: int, timeout_s: float) -> None:
        """Returns when that event is applied; CONSISTENCY_NOT_REACHED when the time is over."""
        await self._wait(lambda: self.has(sequence), sequence, timeout_s)

    async def wait_for_all(self, sequence: int, timeout_s: float) -> None:
        """As `wait_for`, for that event and all before it."""
        await self._wait(lambda: self._floor >= sequence, sequence, timeout_s)

    async def _wait(self, is_reached: Callable[[], bool], sequence: int, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not is_reached():
            remaining = deadline - loop.time()
            if remaining <= 0:
                raise unavailable(
                    "CONSISTENCY_NOT_REACHED",
                    f"event {sequence} is not applied within {timeout_s:g} s",
                    wanted_sequence=str(sequence),
                    applied_sequence=str(self._floor),
                )
            changed = self._changed
            try:
                async with asyncio.timeout(min(remaining, _ASK_INTERVAL_S)):
                    await changed.wait()
            except TimeoutError:
                await self._ask(min(remaining, _ASK_INTERVAL_S))

    async def _ask(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                self.raise_floor(await self._ask_floor())
        except (SelmError, TimeoutError) as error:
            # The bus is down: what this replica applies itself still counts.
            _log.debug("floor_unknown", error=str(error))

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
