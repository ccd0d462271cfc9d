"""Job records and the lease on one: every write names the fencing token it was made under.

A lease is lost when another worker claims the job with a higher token.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from selm.errors import SelmError, not_found
from selm.names import training_job_name
from trainer_svc.core import Failure, now
from trainer_svc.jobs import Attempt, JobState, Order, TrainingJob
from trainer_svc.registry.table import MAX_CHANGE_ATTEMPTS, Stored, Table


class JobCancelled(Exception):  # noqa: N818 - a wish, not an error
    """Someone asked for the job to stop."""


def job_id_of(order: Order) -> str:
    """Id of the job of a request: the same at every delivery."""
    return hashlib.sha256(f"job:{order.tenant}:{order.request_id}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class JobDefaults:
    """What a job gets that its request does not say."""

    max_attempts: int = 3
    max_duration_s: float = 3600.0


class JobRegistry:
    """The one writer of job records."""

    def __init__(self, table: Table[TrainingJob]) -> None:
        self._table = table

    async def get(self, tenant: str, job_id: str) -> TrainingJob:
        """The job; RESOURCE_NOT_FOUND if the tenant has none of that id."""
        stored = await self._table.find(_key(tenant, job_id))
        if stored is None:
            raise not_found(training_job_name(job_id))
        return stored.record

    async def list_all(self, tenant: str) -> list[TrainingJob]:
        """All jobs of the tenant, newest first."""
        jobs = await self._table.list_all(f"{tenant}.")
        return sorted(jobs, key=lambda job: (job.create_time, job.job_id), reverse=True)

    async def open(self, order: Order, defaults: JobDefaults) -> TrainingJob:
        """The job of a request, QUEUED if it is new."""
        time = now()
        fresh = TrainingJob(
            tenant=order.tenant,
            job_id=job_id_of(order),
            adapter_id=order.adapter_id,
            request_id=order.request_id,
            state=JobState.QUEUED,
            create_time=time,
            update_time=time,
            from_base=order.from_base,
            max_author_share=order.max_author_share,
            max_attempts=defaults.max_attempts,
            max_duration_s=defaults.max_duration_s,
        )
        return await self._table.create(_key(order.tenant, fresh.job_id), fresh)

    async def change(
        self, tenant: str, job_id: str, change: Callable[[TrainingJob], TrainingJob]
    ) -> TrainingJob:
        """Applies a change that needs no lease, such as a wish to cancel."""
        job = await self._table.change(_key(tenant, job_id), change)
        if job is None:
            raise not_found(training_job_name(job_id))
        return job

    async def claim(self, tenant: str, job_id: str, worker: str) -> "Lease | None":
        """Takes the job under a new fencing token; None if it is final already.

        Whoever held it before learns so at its next write. The attempt it left open is closed here,
        because its worker will not come back to do it.
        """
        key = _key(tenant, job_id)
        for _ in range(MAX_CHANGE_ATTEMPTS):
            stored = await self._table.find(key)
            if stored is None:
                raise not_found(training_job_name(job_id))
            if stored.record.state.is_final:
                return None
            claimed = _claimed(stored.record, worker)
            try:
                revision = await self._table.write(key, claimed, stored.revision)
            except SelmError as error:
                if error.reason != "STALE_REVISION":
                    raise
                continue
            return Lease(self._table, Stored(claimed, revision))
        raise SelmError("BUS_UNAVAILABLE", f"{key} is being changed by others without pause")


class Lease:
    """The right to write one job under one fencing token. Safe to use from several tasks."""

    def __init__(self, table: Table[TrainingJob], stored: Stored[TrainingJob]) -> None:
        self._table = table
        self._stored = stored
        self._lock = asyncio.Lock()
        self.epoch = stored.record.lease_epoch

    @property
    def job(self) -> TrainingJob:
        """The job as last written or read under this lease."""
        return self._stored.record

    async def save(self, *, is_ending: bool = False, **changes: Any) -> TrainingJob:
        """Writes fields of the job; LEASE_LOST or JobCancelled if this worker may not go on.

        `is_ending` writes a final state over CANCELLING as well.
        """
        async with self._lock:
            while True:
                if self.job.state is JobState.CANCELLING and not is_ending:
                    raise JobCancelled
                changed = replace(self.job, **changes, update_time=now())
                try:
                    revision = await self._table.write(
                        _key(changed.tenant, changed.job_id), changed, self._stored.revision
                    )
                except SelmError as error:
                    if error.reason != "STALE_REVISION":
                        raise
                    await self._refresh(is_ending=is_ending)
                else:
                    self._stored = Stored(changed, revision)
                    return changed

    async def check(self) -> None:
        """Raises if the job was cancelled or taken over since the last write."""
        async with self._lock:
            if not self.job.state.is_final:
                await self._refresh(is_ending=False)

    async def end_attempt(
        self, state: JobState, failure: Failure | None, **more: Any
    ) -> TrainingJob:
        """Closes the attempt and puts the job into `state`, final or back to QUEUED.

        JobCancelled if the job is to stop and would go back to QUEUED: the wish must not be lost.
        """
        time = now()
        if state in (JobState.FAILED, JobState.REJECTED):
            # Otherwise the record may hold the refusal of a replica, which is kept.
            more["failure"] = failure
        last = replace(self.job.attempts[-1], failure=failure, end_time=time)
        return await self.save(
            is_ending=state.is_final,
            state=state,
            attempts=(*self.job.attempts[:-1], last),
            end_time=time if state.is_final else None,
            **more,
        )

    async def _refresh(self, *, is_ending: bool) -> None:
        job = self.job
        stored = await self._table.find(_key(job.tenant, job.job_id))
        if stored is None or stored.record.lease_epoch != self.epoch:
            current = 0 if stored is None else stored.record.lease_epoch
            raise SelmError(
                "LEASE_LOST",
                f"{training_job_name(job.job_id)} is held by another worker",
                metadata={"lease_epoch": str(self.epoch), "current_epoch": str(current)},
            )
        self._stored = stored
        if stored.record.state is JobState.CANCELLING and not is_ending:
            raise JobCancelled


def _claimed(job: TrainingJob, worker: str) -> TrainingJob:
    time = now()
    attempts = job.attempts
    if attempts and attempts[-1].end_time is None:
        lost = Failure("LEASE_LOST", f"{attempts[-1].worker} stopped without a word", time=time)
        # NOTE: not now. The guard's last word tells how long the worker lived; the time in which
        # nobody worked must not count as working time.
        died = max(attempts[-1].start_time, min(job.update_time, time))
        attempts = (*attempts[:-1], replace(attempts[-1], end_time=died, failure=lost))
    attempt = Attempt(len(attempts) + 1, worker, job.lease_epoch + 1, time)
    return replace(
        job,
        attempts=(*attempts, attempt),
        start_time=job.start_time or time,
        update_time=time,
        progress=None,
    )


def _key(tenant: str, job_id: str) -> str:
    return f"{tenant}.{job_id}"
