"""Waiting out the bus: a step that cannot be stored now is tried until it can.

An outage of the broker spends no attempt of a job; whether the job is still ours is checked by the
write itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from selm.errors import SelmError
from selm.log import get_logger

_log = get_logger("trainer_svc.training")

T = TypeVar("T")
OUTAGES = frozenset({"BUS_UNAVAILABLE"})
MAX_BACK_OFF_S = 10.0


async def patiently(step: Callable[[], Awaitable[T]]) -> T:
    """The step's result, however long the bus takes."""
    back_off_s = 0.25
    while True:
        try:
            return await step()
        except SelmError as error:
            if error.reason not in OUTAGES:
                raise
            _log.warning("waiting_for_bus", error=str(error))
        await asyncio.sleep(back_off_s)
        back_off_s = min(MAX_BACK_OFF_S, back_off_s * 2)
