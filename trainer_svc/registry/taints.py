"""Lessons that were erased and the revisions that hold them: written once each, kept for ever.

`{tenant}.erased.{erasure}` lists lessons, `{tenant}.revision.{adapter}.{revision}` is one tainted.
The lessons are written before revisions are looked through, and a new revision is recorded before
it is compared with them: whoever comes second sees the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from selm.errors import SelmError
from selm.names import revision_name
from trainer_svc.jobs import Dataset
from trainer_svc.registry.table import KeyValue, Table


@dataclass(frozen=True)
class ErasedLessons:
    """Ids of the lessons that one erasure took."""

    lesson_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taint:
    """How many erased examples a revision was trained on, itself or through its parents."""

    num_examples: int


class TaintRegistry:
    """The one writer of the bucket."""

    def __init__(self, kv: KeyValue) -> None:
        self._lessons = Table[ErasedLessons](kv, ErasedLessons)
        self._taints = Table[Taint](kv, Taint)

    async def erase(self, tenant: str, erasure_id: str, lesson_ids: Iterable[str]) -> None:
        """From now on no revision may hold these; more of the same erasure are added."""
        key, new = f"{tenant}.erased.{erasure_id}", tuple(sorted(set(lesson_ids)))
        await self._lessons.create(key, ErasedLessons(new))
        await self._lessons.change(
            key, lambda old: ErasedLessons(tuple(sorted({*old.lesson_ids, *new})))
        )

    async def erased(self, tenant: str) -> frozenset[str]:
        """Ids of all erased lessons of the tenant."""
        found = await self._lessons.list_all(f"{tenant}.erased.")
        return frozenset(lesson_id for each in found for lesson_id in each.lesson_ids)

    async def taint(
        self, tenant: str, adapter_id: str, revision_id: str, num_examples: int
    ) -> None:
        """Writes down that a revision holds erased examples; a higher number replaces a lower."""
        key = _key(tenant, adapter_id, revision_id)
        await self._taints.create(key, Taint(num_examples))
        await self._taints.change(
            key, lambda old: replace(old, num_examples=max(old.num_examples, num_examples))
        )

    async def num_examples(self, tenant: str, adapter_id: str, revision_id: str) -> int:
        """Erased examples in a revision; 0 for one that is not tainted."""
        found = await self._taints.find(_key(tenant, adapter_id, revision_id))
        return found.record.num_examples if found else 0

    async def check(self, tenant: str, adapter_id: str, revision_id: str) -> None:
        """ADAPTER_TAINTED for a revision that may not be aliased any more."""
        if await self.num_examples(tenant, adapter_id, revision_id):
            name = revision_name(adapter_id, revision_id)
            raise SelmError(
                "ADAPTER_TAINTED",
                f"{name} was trained on examples of an erased user",
                metadata={"adapter_revision": name},
                resource=name,
            )

    async def check_dataset(self, dataset: Dataset) -> None:
        """ADAPTER_TAINTED for a dataset that would teach what was erased since it was frozen."""
        num = len(dataset.lesson_ids & await self.erased(dataset.tenant))
        if num:
            raise SelmError(
                "ADAPTER_TAINTED",
                f"{num} examples of its dataset belong to an erased user",
                metadata={"dataset": f"datasets/{dataset.dataset_id}"},
            )


def _key(tenant: str, adapter_id: str, revision_id: str) -> str:
    return f"{tenant}.revision.{adapter_id}.{revision_id}"
