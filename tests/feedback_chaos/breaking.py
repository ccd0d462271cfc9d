"""Carries out the plan of faults beside the clients: kills in one lane, the network in another."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable

from selm.testing import eventually
from tests.chaos_proxy.faults import Direction
from tests.chaos_proxy.proxy import ChaosProxy
from tests.feedback_chaos.plan import Plan, Step
from tests.feedback_chaos.processes import Processes

_LOOK_S = 0.02

NETWORK: dict[str, Callable[[ChaosProxy], object]] = {
    "blackhole": ChaosProxy.blackhole,
    "dead_up": lambda proxy: proxy.half_open(Direction.UP),
    "dead_down": lambda proxy: proxy.half_open(Direction.DOWN),
    "hidden_ends": ChaosProxy.hide_ends,
    "hold": ChaosProxy.hold,
    "latency": lambda proxy: proxy.slow(latency_s=0.3, jitter_s=0.2),
    "rate": lambda proxy: proxy.slow(bytes_per_s=4000),
    "reset": ChaosProxy.reset,
}


class Breaker:
    """Breaks what the plan says, when enough was acknowledged; what it did is counted."""

    def __init__(
        self, processes: Processes, proxy: ChaosProxy, num_acknowledged: Callable[[], int]
    ) -> None:
        self._processes = processes
        self._proxy = proxy
        self._num_acknowledged = num_acknowledged
        self.kills: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    async def run(self, plan: Plan) -> None:
        """Until every step is done and undone."""
        # Killing is one lane per process: what is starting need not hold up what else breaks.
        processes = sorted(plan.sizes.kills)
        lanes = [[step for step in plan.kills if step.what == process] for process in processes]
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(self._break_processes(lane))
            group.create_task(self._break_network(plan.network))

    async def _break_processes(self, steps: list[Step]) -> None:
        for step in steps:
            await self._due(step)
            await asyncio.to_thread(self._processes.kill, step.what)
            self.kills[step.what] += 1
            await asyncio.sleep(step.lasts_s)
            await asyncio.to_thread(self._processes.start_again, step.what)

    async def _break_network(self, steps: tuple[Step, ...]) -> None:
        try:
            for step in steps:
                await self._due(step)
                NETWORK[step.what](self._proxy)
                self.faults[step.what] += 1
                await asyncio.sleep(step.lasts_s)
                self._proxy.heal()
        finally:
            self._proxy.heal()

    async def _due(self, step: Step) -> None:
        async def is_due() -> bool:
            return self._num_acknowledged() >= step.after

        await eventually(is_due, timeout_s=math.inf, interval_s=_LOOK_S)
