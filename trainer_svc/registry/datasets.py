"""Frozen datasets, written once and changed by erasures alone, and the evaluations of jobs."""

from collections.abc import Set
from dataclasses import replace
from datetime import datetime

from selm.errors import SelmError, not_found
from selm.names import dataset_name, evaluation_name
from trainer_svc.core import Evaluation
from trainer_svc.jobs import Dataset, DatasetLesson
from trainer_svc.registry.codec import encode
from trainer_svc.registry.table import KeyValue, Table

# The bus takes messages of up to 8 MiB; beyond this a dataset belongs in parts.
MAX_DATASET_BYTES = 7 * 1024 * 1024


class DatasetRegistry:
    """The one writer of dataset records."""

    def __init__(self, kv: KeyValue) -> None:
        self._kv = kv
        self._table = Table[Dataset](kv, Dataset)

    async def freeze(self, dataset: Dataset) -> Dataset:
        """Stores the dataset; if the job froze one before, that one is returned and stands."""
        size_bytes = len(encode(dataset))
        if size_bytes > MAX_DATASET_BYTES:
            raise SelmError(
                "MESSAGE_TOO_LARGE",
                f"{dataset_name(dataset.dataset_id)} has {size_bytes} bytes",
                metadata={"limit_bytes": str(MAX_DATASET_BYTES)},
            )
        return await self._table.create(f"{dataset.tenant}.{dataset.dataset_id}", dataset)

    async def find(self, tenant: str, dataset_id: str) -> Dataset | None:
        """The dataset, if it was frozen."""
        if not dataset_id:
            return None
        stored = await self._table.find(f"{tenant}.{dataset_id}")
        return stored.record if stored else None

    async def erase(self, tenant: str, lesson_ids: Set[str], user: str, until: datetime) -> None:
        """Takes the texts of these lessons, and of the user's, out of what was frozen until then.

        Ids and digest stay, so that a revision can still be told to hold them. Outdated answers do
        not say whose they were, so all of them go.
        """
        for key in await self._kv.keys(f"{tenant}."):
            await self._table.change(key, lambda old: _erased(old, lesson_ids, user, until))


def _erased(dataset: Dataset, lesson_ids: Set[str], user: str, until: datetime) -> Dataset:
    if dataset.create_time > until:
        user = ""

    def is_gone(lesson: DatasetLesson) -> bool:
        return lesson.lesson_id in lesson_ids or (bool(user) and lesson.user == user)

    lessons = tuple(
        replace(each, question="", answer="", paraphrases=(), user="") if is_gone(each) else each
        for each in dataset.lessons
    )
    return replace(dataset, lessons=lessons, superseded=() if user else dataset.superseded)


class EvaluationRegistry:
    """The one writer of evaluation records."""

    def __init__(self, kv: KeyValue) -> None:
        self._table = Table[Evaluation](kv, Evaluation)

    async def put(self, evaluation: Evaluation) -> Evaluation:
        """Stores the evaluation.

        A job that died before its revision was recorded trains again; its last judgement stands.
        """
        key = f"{evaluation.tenant}.{evaluation.evaluation_id}"
        stored = await self._table.create(key, evaluation)
        if stored.revision_id == evaluation.revision_id:
            return stored
        return await self._table.change(key, lambda _: evaluation) or evaluation

    async def get(self, tenant: str, evaluation_id: str) -> Evaluation:
        """The evaluation; RESOURCE_NOT_FOUND if the tenant has none of that id."""
        stored = await self._table.find(f"{tenant}.{evaluation_id}")
        if stored is None:
            raise not_found(evaluation_name(evaluation_id))
        return stored.record
