"""Watches over a running job: keeps the message ours, and notices cancellation and a lost lease."""

import asyncio
import time
from dataclasses import dataclass

from selm.errors import SelmError
from selm.log import get_logger
from selm.names import training_job_name
from trainer_svc.jobs import TrainingJob
from trainer_svc.ports import Heartbeat
from trainer_svc.registry.jobs import JobRegistry, Lease
from trainer_svc.training.patience import patiently

_log = get_logger("trainer_svc.training")

# A cancelled job stops within this and the end of its child.
CHECK_INTERVAL_S = 0.3
# A third of the queue's ack_wait: the broker gives a message away that nobody claims to work on.
HEARTBEAT_INTERVAL_S = 3.0
# A holder that has written nothing for this long is taken for dead.
SILENCE_S = 30.0


@dataclass(frozen=True)
class Guard:
    """Runs beside the work of one attempt."""

    lease: Lease
    heartbeat: Heartbeat

    async def watch(self) -> None:
        """Never returns; raises JobCancelled, or LEASE_LOST, once the work must end."""
        beat_at = 0.0
        while True:
            try:
                if self.lease.job.state.is_final:
                    # Our own last write; what is left of the work needs no lease.
                    await self.heartbeat()
                elif time.monotonic() - beat_at >= HEARTBEAT_INTERVAL_S:
                    beat_at = time.monotonic()
                    # Shows other workers, too, that this one lives.
                    await self.lease.save()
                    await self.heartbeat()
                else:
                    await self.lease.check()
            except SelmError as error:
                if error.reason == "LEASE_LOST":
                    raise
                _log.info("guard_waits", training_job=self.lease.job.job_id, error=str(error))
                await asyncio.sleep(1.0)
            await asyncio.sleep(CHECK_INTERVAL_S)


async def wait_until_final(jobs: JobRegistry, job: TrainingJob) -> None:
    """Follows a job that another worker holds.

    NOTE: returning early would acknowledge the message away from under that worker, and giving it
    back would steal the job again. Only if the holder falls silent the message is given back.
    """
    seen, seen_at = job.update_time, time.monotonic()
    while True:
        current = await patiently(lambda: jobs.get(job.tenant, job.job_id))
        if current.state.is_final:
            return
        if current.update_time != seen:
            seen, seen_at = current.update_time, time.monotonic()
        elif time.monotonic() - seen_at > SILENCE_S:
            raise SelmError("LEASE_LOST", f"{training_job_name(job.job_id)}: its holder is silent")
        await asyncio.sleep(1.0)
