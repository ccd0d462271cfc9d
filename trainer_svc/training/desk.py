"""What operators ask for: move an alias, roll back, cancel a job; with everything that follows.

The wish itself is one compare-and-set. What follows it (announcement, lessons) is done at once if
the bus allows, else by `run`, which also makes good what a crashed trainer left undone.
"""

import asyncio
from dataclasses import dataclass, field, replace

from selm.errors import SelmError
from selm.log import get_logger
from selm.names import training_job_name
from trainer_svc.core import STABLE, Alias, Move, now
from trainer_svc.jobs import JobState, Order, TrainingJob
from trainer_svc.ports import Announcer
from trainer_svc.registry.adapters import AdapterRegistry
from trainer_svc.registry.jobs import JobRegistry, job_id_of
from trainer_svc.training.announce import AliasAnnouncer
from trainer_svc.training.keeper import LessonKeeper
from trainer_svc.training.watch import JobWatch

_log = get_logger("trainer_svc.registry")

RECONCILE_INTERVAL_S = 30.0
UNCANCELLABLE = frozenset(
    {JobState.PUBLISHING, JobState.SUCCEEDED, JobState.REJECTED, JobState.FAILED}
)


@dataclass(frozen=True)
class Desk:
    """Carries out operators' wishes."""

    adapters: AdapterRegistry
    jobs: JobRegistry
    aliases: AliasAnnouncer
    keeper: LessonKeeper
    announcer: Announcer
    watch: JobWatch
    # Adapters whose lessons may not fit their `stable` yet.
    unsettled: set[tuple[str, str]] = field(default_factory=set)

    async def move(
        self, tenant: str, adapter_id: str, revision_id: str, move: Move, *, force: bool
    ) -> Alias:
        """Points an alias at a revision and tells everyone."""
        moved = await self.adapters.move(tenant, adapter_id, revision_id, move, force=force)
        await self._follow_up(tenant, moved.alias)
        return moved.alias

    async def roll_back(
        self, tenant: str, adapter_id: str, target_revision_id: str, move: Move
    ) -> Alias:
        """Points an alias back and tells everyone."""
        moved = await self.adapters.roll_back(tenant, adapter_id, target_revision_id, move)
        await self._follow_up(tenant, moved.alias)
        return moved.alias

    async def cancel(self, tenant: str, job_id: str) -> TrainingJob:
        """Asks for the job to stop; one that nobody holds is stopped by this."""
        job = await self.jobs.change(tenant, job_id, cancelled)
        self.watch.tell(job)
        message_id = f"{job.job_id}.{job.lease_epoch}.{job.state.lower()}"
        try:
            await self.announcer.job_updated(job, message_id)
            if job.state is JobState.CANCELLED:
                await self.keeper.give_back(job, "the training was cancelled")
        except SelmError as error:
            # The worker that gets the request next tells it again.
            _log.warning("cancel_not_announced", training_job=job_id, error=str(error))
        return job

    async def cancel_request(self, tenant: str, request_id: str) -> None:
        """Asks the job of a request to stop, if there is one yet that can be stopped."""
        try:
            job = await self.jobs.get(tenant, job_id_of(Order(tenant, request_id, "")))
            if not job.state.is_final:
                await self.cancel(tenant, job.job_id)
        except SelmError as error:
            if error.reason not in ("RESOURCE_NOT_FOUND", "STATE_CONFLICT"):
                raise

    async def run(self) -> None:
        """Reconciles for ever: at start everything, later what is known to be unsettled."""
        for adapter in await self._every_adapter():
            self.unsettled.add(adapter)
        while True:
            try:
                await self.aliases.reconcile()
            except SelmError as error:
                _log.warning("reconcile_waits", error=str(error))
            for tenant, adapter_id in tuple(self.unsettled):
                await self._settle(tenant, adapter_id)
            await asyncio.sleep(RECONCILE_INTERVAL_S)

    async def _settle(self, tenant: str, adapter_id: str) -> None:
        """Settles one adapter if that can be done now, without standing in the others' way."""
        try:
            await self.keeper.settle(tenant, adapter_id)
        except SelmError as error:
            _log.warning("settling_waits", tenant=tenant, adapter=adapter_id, error=str(error))
        except Exception:
            # Such as a damaged record: it is that adapter's alone, and the trainer goes on.
            _log.exception("settling_failed", tenant=tenant, adapter=adapter_id)
        else:
            self.unsettled.discard((tenant, adapter_id))

    async def _every_adapter(self) -> list[tuple[str, str]]:
        while True:
            try:
                found = await self.adapters.list_everywhere()
                return [(adapter.tenant, adapter.adapter_id) for adapter in found]
            except SelmError as error:
                _log.warning("reconcile_waits", error=str(error))
            await asyncio.sleep(1.0)

    async def _follow_up(self, tenant: str, alias: Alias) -> None:
        key = (tenant, alias.adapter_id)
        if alias.alias_id == STABLE:
            self.unsettled.add(key)
        try:
            await self.aliases.announce(tenant, alias.adapter_id, alias.alias_id)
            if alias.alias_id == STABLE:
                await self.keeper.settle(tenant, alias.adapter_id)
                self.unsettled.discard(key)
        except SelmError as error:
            # NOTE: the alias has moved; an error now would make callers move it again.
            _log.warning("move_not_announced", adapter=alias.adapter_id, error=str(error))


def cancelled(job: TrainingJob) -> TrainingJob:
    """The job as wished to stop; STATE_CONFLICT if it is past that. Pure."""
    if job.state in (JobState.CANCELLED, JobState.CANCELLING):
        return job
    if job.state in UNCANCELLABLE or job.output_revision_id:
        raise SelmError(
            "STATE_CONFLICT",
            f"{training_job_name(job.job_id)} is {job.state} and cannot be cancelled",
            metadata={
                "resource_name": training_job_name(job.job_id),
                "state": str(job.state),
                "action": "cancel",
            },
        )
    time = now()
    if job.is_held:
        return replace(job, state=JobState.CANCELLING, update_time=time)
    return replace(job, state=JobState.CANCELLED, update_time=time, end_time=time)
