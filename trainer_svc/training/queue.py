"""One worker of the training queue: claim, prepare, train, publish, under a lease.

1 The job of the request is opened and claimed under a new fencing token. 2 Its dataset is frozen,
or read back. 3 A child trains and judges. 4 The result is recorded, 5 acted on, and the job is
final. Beside the work a guard tells the broker that we live, and ends the work when the job is
cancelled or another worker holds it. An attempt that dies anywhere is repeated from what is on
record.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selm.errors import SelmError
from selm.log import get_logger
from selm.testing import failpoint
from trainer_svc.core import Failure
from trainer_svc.jobs import Dataset, JobState, Order, TrainingJob
from trainer_svc.ports import Announcer, Heartbeat
from trainer_svc.registry.cancellations import Cancellations
from trainer_svc.registry.jobs import JobCancelled, JobDefaults, JobRegistry, Lease
from trainer_svc.training.attempts import (
    HOPELESS,
    after_all_attempts,
    budget_s,
    exhausted,
)
from trainer_svc.training.guard import Guard, wait_until_final
from trainer_svc.training.keeper import LessonKeeper
from trainer_svc.training.outcome import BaseModel
from trainer_svc.training.patience import patiently
from trainer_svc.training.prepare import Preparation
from trainer_svc.training.publish import Publisher
from trainer_svc.training.report import JobReport
from trainer_svc.training.runner import TrainingProcess
from trainer_svc.training.watch import JobWatch

_log = get_logger("trainer_svc.training")

# A worker that is asked to end has this long to give its job back.
FAREWELL_S = 3.0


class AttemptFailedError(Exception):
    """The attempt ended; the request is to be delivered again."""


@dataclass(frozen=True)
class TrainingQueue:
    """Carries out training requests, one at a time per call."""

    worker: str
    jobs: JobRegistry
    defaults: JobDefaults
    preparation: Preparation
    process: TrainingProcess
    publisher: Publisher
    keeper: LessonKeeper
    announcer: Announcer
    watch: JobWatch
    cancellations: Cancellations

    async def carry_out(self, order: Order, heartbeat: Heartbeat) -> None:
        """Brings the request's job to a final state. Returning takes it out of the queue."""
        job = await patiently(lambda: self._open(order))
        lease = await patiently(lambda: self.jobs.claim(job.tenant, job.job_id, self.worker))
        if lease is None:
            await self._conclude_again(order.tenant, job.job_id)
            return
        failpoint("trainer.after_claim")
        report = JobReport(lease, self.announcer, self.watch)
        try:
            if await patiently(lambda: self.cancellations.is_wished(order)):
                # Wished before there was a job to tell it to.
                await self._stop_if_possible(lease)
            await self._guarded(lease, report, heartbeat)
        except JobCancelled:
            await self._cancelled(report)
        except SelmError as error:
            if error.reason != "LEASE_LOST":
                raise
            _log.warning("lease_lost", training_job=job.job_id, error=str(error))
            await wait_until_final(self.jobs, job)
        failpoint("trainer.before_ack")

    async def _stop_if_possible(self, lease: Lease) -> None:
        if not lease.job.output_revision_id:
            raise JobCancelled

    async def _open(self, order: Order) -> TrainingJob:
        base = await self.preparation.base.get()
        await self.preparation.adapters.ensure(order.tenant, order.adapter_id, base.name)
        return await self.jobs.open(order, self.defaults)

    async def _guarded(self, lease: Lease, report: JobReport, heartbeat: Heartbeat) -> None:
        """Runs the attempt until it ends by itself or the guard ends it."""
        work = asyncio.create_task(self._attempt(lease, report))
        guard = asyncio.create_task(Guard(lease, heartbeat).watch())
        try:
            await asyncio.wait({work, guard}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                guard.result()
            await work
        except asyncio.CancelledError:
            await _through(self._leave(work, report))
            raise
        finally:
            await _stop(guard)
            await _stop(work)

    async def _attempt(self, lease: Lease, report: JobReport) -> None:
        try:
            await self._steps(lease, report)
        except SelmError as error:
            if error.reason == "LEASE_LOST":
                raise
            await self._failed(report, error)
        except (JobCancelled, asyncio.CancelledError, AttemptFailedError):
            raise
        except Exception as error:
            _log.exception("training_attempt_crashed", training_job=lease.job.job_id)
            text = f"the trainer failed: {type(error).__name__}"
            await self._failed(report, SelmError("INTERNAL", text))

    async def _steps(self, lease: Lease, report: JobReport) -> None:
        job = lease.job
        if job.state is JobState.CANCELLING:
            raise JobCancelled
        if job.output_revision_id:
            # An earlier attempt came this far: what it made is judged and on record.
            await report.save(state=JobState.PUBLISHING)
            dataset = await self.preparation.dataset(job)
        else:
            if job.num_spent_attempts > job.max_attempts:
                raise exhausted(job)
            dataset = await self._train(report)
        await self.publisher.conclude(report, dataset)

    async def _train(self, report: JobReport) -> Dataset:
        job = await report.save(state=JobState.PREPARING, config=self.preparation.config())
        dataset = await self.preparation.dataset(job)
        job = await report.save(
            dataset_id=dataset.dataset_id,
            start=dataset.start,
            start_reason=dataset.start_reason,
            parent_revision_id=dataset.parent_revision_id,
        )
        failpoint("trainer.after_freeze")
        async with self._work_folder(job) as folder:
            job_file = await self.preparation.job_file(dataset, folder)
            result = await self.process.run(job_file, report.progressed, budget_s(job))
            failpoint("trainer.after_train")
            # Inference may have come up with another base model while we trained.
            base = await self.preparation.checked_base()
            model = BaseModel(base.name, base.sha256)
            await self.publisher.record(report, dataset, model, result)
        return dataset

    @asynccontextmanager
    async def _work_folder(self, job: TrainingJob) -> AsyncIterator[Path]:
        # The fencing token keeps a worker that was taken over from writing into our files.
        name = f"{job.tenant}-{job.job_id}"
        root = self.preparation.workplace.work_dir.resolve()
        folder = root / f"{name}-{job.lease_epoch}"
        for left in root.glob(f"{name}-*"):
            # Of an attempt that was killed.
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _failed(self, report: JobReport, error: SelmError) -> None:
        """Ends the attempt; the job too if another attempt cannot help."""
        job = report.job
        failure = Failure(error.reason, error.message, error.metadata, retryable=error.is_retryable)
        is_last = job.num_spent_attempts >= job.max_attempts
        if error.reason in HOPELESS:
            await self._final(report, JobState.FAILED, failure)
        elif is_last or error.reason == "ATTEMPTS_EXHAUSTED":
            await self._final(report, JobState.FAILED, after_all_attempts(job, failure))
        else:
            await report.end(JobState.QUEUED, failure)
            raise AttemptFailedError(str(error))

    async def _cancelled(self, report: JobReport) -> None:
        _log.info("training_job_cancelled", training_job=report.job.job_id)
        await self._final(report, JobState.CANCELLED, None)

    async def _final(self, report: JobReport, state: JobState, failure: Failure | None) -> None:
        why = f"{failure.reason}: {failure.message}" if failure else "the training was cancelled"
        await patiently(lambda: self.keeper.give_back(report.job, why))
        await report.end(state, failure)

    async def _conclude_again(self, tenant: str, job_id: str) -> None:
        """Tells what may have been left untold when the job became final."""
        job = await patiently(lambda: self.jobs.get(tenant, job_id))
        why = f"the training ended {job.state}"
        await patiently(lambda: self.keeper.give_back(job, why))
        message_id = f"{job.job_id}.{job.lease_epoch}.final"
        await patiently(lambda: self.announcer.job_updated(job, message_id))
        self.watch.tell(job)

    async def _leave(self, work: "asyncio.Task[None]", report: JobReport) -> None:
        """Gives the job back at once, so that the next worker need not wait."""
        await _stop(work)
        failure = Failure("DRAINING", "the trainer was shut down", retryable=True)
        with contextlib.suppress(TimeoutError, SelmError):
            async with asyncio.timeout(FAREWELL_S):
                if not report.job.state.is_final:
                    await self._hand_back(report, failure)

    async def _hand_back(self, report: JobReport, failure: Failure) -> None:
        try:
            await report.end(JobState.QUEUED, failure)
        except JobCancelled:
            await self._cancelled(report)


async def _through(farewell: Coroutine[Any, Any, None]) -> None:
    """Lets it end although this task is being cancelled, perhaps more than once."""
    task = asyncio.create_task(farewell)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
