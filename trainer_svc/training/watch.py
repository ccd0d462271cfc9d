"""Who watches which job: changes of this process at once, of other processes within half a second.

Progress lives in memory here; only a thinned copy of it is stored.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator

from trainer_svc.jobs import TrainingJob
from trainer_svc.registry.jobs import JobRegistry

# Another worker may hold the job: look at the stored record this often.
POLL_S = 0.5
# At most four frames a second that only show progress.
PROGRESS_INTERVAL_S = 0.25


class _Watcher:
    """Frames one watcher has not seen yet: every state, of each the newest progress."""

    def __init__(self) -> None:
        self.frames: deque[TrainingJob] = deque()
        self._woken = asyncio.Event()

    def push(self, job: TrainingJob) -> None:
        if self.frames and self.frames[-1].state is job.state:
            self.frames.pop()
        self.frames.append(job)
        self._woken.set()

    async def wait(self) -> bool:
        """True if something was pushed in time."""
        try:
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class JobWatch:
    """Hands every change of a job to whoever follows it."""

    def __init__(self, jobs: JobRegistry) -> None:
        self._jobs = jobs
        self._watchers: dict[tuple[str, str], set[_Watcher]] = {}

    def tell(self, job: TrainingJob) -> None:
        """The job changed or progressed in this process."""
        for watcher in self._watchers.get((job.tenant, job.job_id), ()):
            watcher.push(job)

    async def follow(self, tenant: str, job_id: str) -> AsyncIterator[TrainingJob]:
        """The job now, then every change, until it is final."""
        watcher = _Watcher()
        watchers = self._watchers.setdefault((tenant, job_id), set())
        watchers.add(watcher)
        try:
            shown = await self._jobs.get(tenant, job_id)
            yield shown
            while not shown.state.is_final:
                async for job in self._next(watcher, shown):
                    shown = job
                    yield job
        finally:
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop((tenant, job_id), None)

    async def _next(self, watcher: _Watcher, shown: TrainingJob) -> AsyncIterator[TrainingJob]:
        began = time.monotonic()
        if not await watcher.wait():
            watcher.push(await self._jobs.get(shown.tenant, shown.job_id))
        if watcher.frames and watcher.frames[-1].state is shown.state:
            # Only progress: let newer progress replace it until its turn has come.
            await asyncio.sleep(max(0.0, PROGRESS_INTERVAL_S - (time.monotonic() - began)))
        while watcher.frames:
            job = watcher.frames.popleft()
            # The stored record is thinned and may lie behind what was shown already.
            if job == shown or job.update_time < shown.update_time:
                continue
            shown = job
            yield job
