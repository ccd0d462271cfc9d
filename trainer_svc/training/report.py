"""Writing a job's state down and telling everyone: record, stream JOBS, watchers, in that order.

Progress goes to watchers at once and is stored and announced at most once a second.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from selm.errors import SelmError
from selm.log import get_logger
from trainer_svc.core import Failure, now
from trainer_svc.jobs import JobState, Progress, TrainingJob
from trainer_svc.ports import Announcer
from trainer_svc.registry.jobs import JobCancelled, Lease
from trainer_svc.training.patience import patiently
from trainer_svc.training.watch import JobWatch

_log = get_logger("trainer_svc.training")
STORE_INTERVAL_S = 1.0

_PHASES = {
    "preparing": JobState.PREPARING,
    "training": JobState.TRAINING,
    "evaluating": JobState.EVALUATING,
}


class JobReport:
    """Reports one attempt of one job, under its lease."""

    def __init__(self, lease: Lease, announcer: Announcer, watch: JobWatch) -> None:
        self._lease = lease
        self._announcer = announcer
        self._watch = watch
        self._num_reports = 0
        self._storing: asyncio.Task[None] | None = None
        self._stored_at = 0.0
        self._unstored: Progress | None = None
        self._peak_memory_bytes = 0
        self._began_at = time.monotonic()

    @property
    def job(self) -> TrainingJob:
        """The job as last written."""
        return self._lease.job

    async def save(self, **changes: Any) -> TrainingJob:
        """Stores and tells a change; waits out an outage of the bus."""
        await self._quiet()
        if self._unstored is not None:
            # The last line of a phase is rarely due for storing when the phase ends.
            changes = {**self._measured(self._unstored), **changes}
        job = await patiently(lambda: self._lease.save(**changes))
        await patiently(lambda: self._announce(job))
        return job

    async def end(self, state: JobState, failure: Failure | None = None) -> TrainingJob:
        """Closes the attempt; the job is final or waits for the next one."""
        await self._quiet()
        job = await patiently(lambda: self._lease.end_attempt(state, failure))
        await patiently(lambda: self._announce(job))
        _log.info(
            "training_attempt_ended",
            training_job=job.job_id,
            tenant=job.tenant,
            adapter=job.adapter_id,
            state=str(state),
            attempt=job.attempts[-1].number,
            reason=failure.reason if failure else None,
            message=failure.message if failure else None,
        )
        return job

    def progressed(self, message: Mapping[str, Any]) -> None:
        """A progress line of the child: watchers see it now, the record soon."""
        state = _PHASES.get(str(message.get("phase")), self.job.state)
        progress = progress_of(message, time.monotonic() - self._began_at)
        job = replace(self.job, state=state, progress=progress, update_time=now())
        if self.job.state is not JobState.CANCELLING:
            self._watch.tell(job)
        self._unstored = progress
        self._peak_memory_bytes = max(self._peak_memory_bytes, progress.memory_bytes)
        is_due = time.monotonic() - self._stored_at >= STORE_INTERVAL_S
        is_idle = self._storing is None or self._storing.done()
        if is_idle and (is_due or state is not self.job.state):
            self._stored_at = time.monotonic()
            self._storing = asyncio.create_task(self._store_progress(state, progress))

    async def _store_progress(self, state: JobState, progress: Progress) -> None:
        try:
            job = await self._lease.save(state=state, **self._measured(progress))
            await self._announce(job)
        except SelmError as error:
            # Progress may be lost: the guard of the lease decides what an error means.
            _log.info("progress_not_stored", training_job=self.job.job_id, error=str(error))
        except JobCancelled:
            _log.info("progress_after_cancel", training_job=self.job.job_id)

    def _measured(self, progress: Progress) -> dict[str, Any]:
        last = self.job.attempts[-1]
        measured = replace(last, peak_memory_bytes=self._peak_memory_bytes)
        attempts = (*self.job.attempts[:-1], measured)
        return {"progress": progress, "attempts": attempts}

    async def _quiet(self) -> None:
        """Lets a running progress write end, so that it cannot land after a state change."""
        if self._storing is not None:
            await asyncio.wait({self._storing})

    async def _announce(self, job: TrainingJob) -> None:
        self._num_reports += 1
        message_id = f"{job.job_id}.{job.lease_epoch}.{self._num_reports}"
        await self._announcer.job_updated(job, message_id)
        self._watch.tell(job)


def progress_of(message: Mapping[str, Any], elapsed_s: float) -> Progress:
    """A progress line as a record; what it lacks is 0."""
    share = float(message.get("progress") or 0.0)
    remaining_s = elapsed_s * (1 - share) / share if 0 < share <= 1 else 0.0
    return Progress(
        step=int(message.get("step") or 0),
        total_steps=int(message.get("total_steps") or 0),
        epoch=float(message.get("epoch") or 0.0),
        loss=float(message.get("loss") or 0.0),
        kl=float(message.get("kl") or 0.0),
        learning_rate=float(message.get("learning_rate") or 0.0),
        tokens_per_second=float(message.get("tokens_per_second") or 0.0),
        token_accuracy=float(message.get("token_accuracy") or 0.0),
        remaining_s=remaining_s,
        memory_bytes=int(message.get("memory_bytes") or 0),
        measure_time=now(),
    )
