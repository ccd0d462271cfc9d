"""From a judged candidate to a serving revision, in steps that may each be repeated.

artifact -> evaluation -> revision -> job names it -> alias -> announcement -> lessons. A crash
between any two is made good by doing them again: content, ids and request ids are the same.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selm.artifacts import ArtifactStore
from selm.names import revision_name, training_job_name
from selm.testing import failpoint
from trainer_svc.core import SERVICE, STABLE, Artifact, Move, Revision, Verdict
from trainer_svc.jobs import Dataset, JobState, Start, TrainingJob
from trainer_svc.registry.adapters import AdapterRegistry
from trainer_svc.registry.datasets import EvaluationRegistry
from trainer_svc.registry.revisions import RevisionRegistry
from trainer_svc.registry.taints import TaintRegistry
from trainer_svc.training.announce import AliasAnnouncer
from trainer_svc.training.keeper import LessonKeeper
from trainer_svc.training.outcome import (
    BaseModel,
    evaluation_of,
    gate_failure,
    read_artifact,
    revision_of,
)
from trainer_svc.training.patience import patiently
from trainer_svc.training.report import JobReport


@dataclass(frozen=True)
class Publisher:
    """Everything publishing writes to."""

    store: ArtifactStore
    adapters: AdapterRegistry
    revisions: RevisionRegistry
    evaluations: EvaluationRegistry
    aliases: AliasAnnouncer
    keeper: LessonKeeper
    taints: TaintRegistry

    async def record(
        self, report: JobReport, dataset: Dataset, base: BaseModel, result: Mapping[str, Any]
    ) -> None:
        """Stores what the child made; after this the job is never trained again."""
        job = await report.save(state=JobState.PUBLISHING)
        path = Path(str(result["artifact"]))
        made = await asyncio.to_thread(read_artifact, path)
        stored = await patiently(lambda: self.store.put(path))
        failpoint("trainer.after_store")
        artifact = Artifact(stored.uri, stored.sha256, stored.size_bytes)
        evaluation = evaluation_of(job, dataset, made, result)
        await patiently(lambda: self.evaluations.put(evaluation))
        revision = revision_of(job, dataset, base, made, artifact, evaluation, result)
        await patiently(lambda: self.revisions.put(revision))
        await patiently(lambda: self._taint(dataset, revision))
        failpoint("trainer.after_revision")
        await report.save(
            output_revision_id=revision.revision_id, evaluation_id=evaluation.evaluation_id
        )

    async def _taint(self, dataset: Dataset, revision: Revision) -> None:
        """Somebody may have been erased while it was trained."""
        tenant, adapter_id = revision.tenant, revision.adapter_id
        number = len(dataset.lesson_ids & await self.taints.erased(tenant))
        if dataset.start is Start.SERVING:
            parent = dataset.parent_revision_id
            number = max(number, await self.taints.num_examples(tenant, adapter_id, parent))
        if number:
            await self.taints.taint(tenant, adapter_id, revision.revision_id, number)

    async def conclude(self, report: JobReport, dataset: Dataset) -> None:
        """Acts on the verdict that is on record, and ends the job."""
        job = report.job
        evaluation = await patiently(lambda: self.evaluations.get(job.tenant, job.evaluation_id))
        if evaluation.verdict is Verdict.PROMOTE:
            await self._promote(job, dataset)
            await self._give_back(job, "its training job ended without it")
            await report.end(JobState.SUCCEEDED)
            return
        failure = gate_failure(evaluation)
        await self._give_back(job, f"{failure.reason}: {failure.message}")
        await report.end(JobState.REJECTED, failure)

    async def _promote(self, job: TrainingJob, dataset: Dataset) -> None:
        move = Move(
            alias_id=STABLE,
            # The gate compared with this one: if another serves now, the verdict says nothing.
            expected_revision_id=dataset.baseline_revision_id,
            scope_mode=None,
            updater=SERVICE,
            reason=f"promoted by {training_job_name(job.job_id)}",
            request_id=f"job:{job.job_id}",
            content=revision_name(job.adapter_id, job.output_revision_id),
        )
        await patiently(
            lambda: self.adapters.move(
                job.tenant,
                job.adapter_id,
                job.output_revision_id,
                move,
                check=lambda: self.keeper.require_eligible(dataset),
            )
        )
        failpoint("trainer.after_alias")
        await patiently(lambda: self.aliases.announce(job.tenant, job.adapter_id, STABLE))
        await patiently(lambda: self.keeper.settle(job.tenant, job.adapter_id))

    async def _give_back(self, job: TrainingJob, reason: str) -> None:
        await patiently(lambda: self.keeper.give_back(job, reason))
