"""Everything a job needs before its child starts: dataset, base model, artifacts, job file."""

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from selm.artifacts import ArtifactStore
from selm.base_model import BaseModelError, BaseModelFolder, resolve_base_model
from selm.errors import SelmError
from selm.lessons import LessonRecord, LessonState
from selm.log import get_logger
from selm.names import feedback_event_name, lesson_name, training_job_name
from trainer_svc.core import STABLE
from trainer_svc.jobs import Dataset, DatasetLesson, TrainingConfig, TrainingJob
from trainer_svc.ports import Inference, LessonBook, LessonStepWish
from trainer_svc.registry.adapters import AdapterRegistry
from trainer_svc.registry.datasets import DatasetRegistry, EvaluationRegistry
from trainer_svc.registry.revisions import RevisionRegistry
from trainer_svc.registry.taints import TaintRegistry
from trainer_svc.training.dataset import (
    FreezePolicy,
    Serving,
    freeze,
    over_share,
    too_long,
)
from trainer_svc.training.length import TOO_LONG
from trainer_svc.training.outcome import lora_of
from trainer_svc.training.patience import patiently
from trainer_svc.training.recipe import Recipe

_log = get_logger("trainer_svc.training")
JOB_FILE = "job.json"


@dataclass(frozen=True)
class Workplace:
    """Where and on what this worker trains."""

    work_dir: Path
    device: str
    num_threads: int
    seed: int
    consolidate_below: int
    recipe: Mapping[str, Any]


class BaseModelSource:
    """The base model, resolved once per process; the first call may convert it."""

    def __init__(self, source: str, cache_dir: Path) -> None:
        self._source = source
        self._cache_dir = cache_dir
        self._lock = asyncio.Lock()
        self._folder: BaseModelFolder | None = None
        # Why it could not be found, for the check of the server.
        self.fault = ""

    @property
    def is_ready(self) -> bool:
        """It was found on disk."""
        return self._folder is not None

    async def get(self) -> BaseModelFolder:
        """The folder; ADAPTER_INCOMPATIBLE if the setting names no usable model."""
        async with self._lock:
            if self._folder is None:
                try:
                    self._folder = await self._resolve()
                except (BaseModelError, BrokenProcessPool) as error:
                    self.fault = str(error)
                    raise SelmError(
                        "ADAPTER_INCOMPATIBLE", str(error), metadata={"field": "base_model"}
                    ) from error
            return self._folder

    async def _resolve(self) -> BaseModelFolder:
        # In a process of its own: converting takes gigabytes that this one would never give back.
        loop = asyncio.get_running_loop()
        pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        try:
            return await loop.run_in_executor(
                pool, resolve_base_model, self._source, self._cache_dir
            )
        finally:
            # Not waited for: that would block the event loop of a trainer that is to end.
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Preparation:
    """Reads and fetches what a job needs."""

    workplace: Workplace
    base: BaseModelSource
    book: LessonBook
    adapters: AdapterRegistry
    revisions: RevisionRegistry
    datasets: DatasetRegistry
    evaluations: EvaluationRegistry
    store: ArtifactStore
    inference: Inference
    taints: TaintRegistry

    async def dataset(self, job: TrainingJob) -> Dataset:
        """The job's frozen dataset; frozen now if this is the first attempt that comes so far."""
        dataset = await self._frozen(job)
        # What was erased since it was frozen, or while it was, is never trained.
        await patiently(lambda: self.taints.check_dataset(dataset))
        return dataset

    async def _frozen(self, job: TrainingJob) -> Dataset:
        frozen = await patiently(lambda: self.datasets.find(job.tenant, job.job_id))
        if frozen is not None:
            return frozen
        base = await self.base.get()
        serving = await patiently(lambda: self._serving(job))
        records = await patiently(lambda: self.book.read(job.tenant))
        max_length = self.config().max_sequence_length
        policy = FreezePolicy(self.workplace.consolidate_below, base.sha256, max_length)
        # Before freezing, which may find nothing left: the lessons' fate must be told all the same.
        for record in too_long(job, records, serving, policy):
            await patiently(partial(self._give_up, job, record))
        for record in over_share(job, records, serving, policy):
            await patiently(partial(self._return, job, record))
        dataset = freeze(job, records, serving, policy)
        return await patiently(lambda: self.datasets.freeze(dataset))

    async def job_file(self, dataset: Dataset, folder: Path) -> Path:
        """Writes what the child reads, with artifacts fetched beside it."""
        base = await self.checked_base()
        parent = await self._artifact(dataset, dataset.parent_revision_id, folder)
        baseline = await self._artifact(dataset, dataset.baseline_revision_id, folder)
        content = {
            "base_model": str(base.path),
            "base_sha256": base.sha256,
            "model_name": base.name,
            "device": self.workplace.device,
            "dtype": "float32",
            "num_threads": self.workplace.num_threads,
            "seed": self.workplace.seed,
            "work_dir": str(folder),
            "config": dict(self.workplace.recipe),
            "parent_artifact": parent,
            "baseline_artifact": baseline,
            "lessons": [_lesson(lesson) for lesson in dataset.lessons],
            "superseded": [vars(item) for item in dataset.superseded],
            "gate": {},
        }
        path = folder / JOB_FILE
        text = json.dumps(content, ensure_ascii=False, indent=1)
        await asyncio.to_thread(path.write_text, text, encoding="utf-8")
        return path

    def config(self) -> TrainingConfig:
        """The recipe in the words of the contract, defaults filled in."""
        recipe = Recipe.from_mapping(self.workplace.recipe, seed=self.workplace.seed)
        return TrainingConfig(
            lora=lora_of(recipe.lora.to_mapping()),
            learning_rate=recipe.learning_rate,
            max_epochs=recipe.max_epochs,
            batch_size=recipe.batch_size,
            max_sequence_length=recipe.max_sequence_length,
            warmup_steps=recipe.warmup_steps,
            max_gradient_norm=recipe.max_gradient_norm,
            seed=recipe.seed,
            kl_weight=recipe.kl_weight,
        )

    async def checked_base(self) -> BaseModelFolder:
        """The base model, unless replicas serve another one; not knowing is no objection."""
        base = await self.base.get()
        try:
            served = await self.inference.base_sha256()
        except SelmError as error:
            _log.info("base_model_not_compared", error=str(error))
            return base
        if served != base.sha256:
            raise SelmError(
                "ADAPTER_INCOMPATIBLE",
                "inference serves another base model than the trainer trains",
                metadata={"field": "base_sha256", "expected": served, "actual": base.sha256},
            )
        return base

    async def _give_up(self, job: TrainingJob, record: LessonRecord) -> None:
        resource = training_job_name(job.job_id)
        await self.book.advance(
            LessonStepWish(record, LessonState.FAILED, resource, TOO_LONG, occasion=job.job_id)
        )

    async def _return(self, job: TrainingJob, record: LessonRecord) -> None:
        """It waits for a dataset in which others have more to say."""
        if record.state is not LessonState.QUEUED:
            return
        resource = training_job_name(job.job_id)
        why = f"its author has {job.max_author_share:.0%} of the dataset already"
        await self.book.advance(
            LessonStepWish(record, LessonState.REMEMBERED, resource, why, occasion=job.job_id)
        )

    async def _serving(self, job: TrainingJob) -> Serving | None:
        alias = (await self.adapters.get(job.tenant, job.adapter_id)).alias(STABLE)
        if alias is None:
            return None
        revision = await self.revisions.get(job.tenant, job.adapter_id, alias.revision_id)
        judged = await self.evaluations.get(job.tenant, revision.manifest.evaluation_id)
        num_erased = await self.taints.num_examples(
            job.tenant, job.adapter_id, revision.revision_id
        )
        return Serving(revision, frozenset(judged.lesson_ids), is_tainted=num_erased > 0)

    async def _artifact(self, dataset: Dataset, revision_id: str, folder: Path) -> str | None:
        if not revision_id:
            return None
        revision = await patiently(
            lambda: self.revisions.get(dataset.tenant, dataset.adapter_id, revision_id)
        )
        artifact = revision.artifact
        into = folder / f"{artifact.sha256}.tar"
        path = await patiently(lambda: self.store.fetch(artifact.uri, artifact.sha256, into))
        return str(path)


def _lesson(lesson: DatasetLesson) -> dict[str, object]:
    return {
        "lesson": lesson_name(lesson.lesson_id),
        "feedback_event": feedback_event_name(lesson.feedback_event_id),
        "question": lesson.question,
        "answer": lesson.answer,
        "paraphrases": list(lesson.paraphrases),
        "round": "new" if lesson.is_new else "old",
        # Held by the parent and asked by the gate, but trained on only if drawn for replay.
        "replayed": not lesson.is_new and lesson.is_trained,
    }
