"""trainer_svc's part of an erasure: what was trained on the user's examples, and their texts here.

Waits until feedback_svc has erased the user's events and named their lessons. Weights cannot
forget, so revisions that hold them are listed and may not be aliased any more; a later training
without them takes their place. Done again after a crash it finds the same.
"""

from collections.abc import Sequence
from dataclasses import replace

from selm import names
from selm.erasure_bus import ErasureStream
from selm.erasure_events import erasure_id_of
from selm.erasures import (
    FEEDBACK,
    TRAINER,
    ErasedEvent,
    Erasure,
    ErasureOrder,
    ReceiptState,
    TaintedRevision,
)
from selm.log import get_logger
from selm.testing import failpoint
from trainer_svc.core import Adapter, Revision
from trainer_svc.registry.adapters import AdapterRegistry
from trainer_svc.registry.datasets import DatasetRegistry, EvaluationRegistry
from trainer_svc.registry.revisions import RevisionRegistry
from trainer_svc.registry.taints import TaintRegistry

_log = get_logger("trainer_svc.erasure")


class Forgetting:
    """Fulfils selm.erasure_bus.Act."""

    def __init__(
        self,
        stream: ErasureStream,
        adapters: AdapterRegistry,
        revisions: RevisionRegistry,
        datasets: DatasetRegistry,
        evaluations: EvaluationRegistry,
        taints: TaintRegistry,
    ) -> None:
        self._stream = stream
        self._adapters = adapters
        self._revisions = revisions
        self._datasets = datasets
        self._evaluations = evaluations
        self._taints = taints

    async def __call__(self, erasure: Erasure) -> None:
        """Does the whole part, once feedback_svc has done the first half of its own."""
        order = erasure.order
        if erasure.receipt(FEEDBACK).state not in {ReceiptState.HIDDEN, ReceiptState.CONFIRMED}:
            return
        purged = await self._stream.purged(order)
        lesson_ids = _lesson_ids(purged.events)
        # Jobs that run look here again before and after they train.
        await self._taints.erase(order.tenant, erasure_id_of(order.name), lesson_ids)
        failpoint("trainer.forget_listed")
        tainted = await self._tainted(order, lesson_ids)
        for revision, num in tainted:
            tenant, adapter_id = order.tenant, revision.adapter_id
            await self._taints.taint(tenant, adapter_id, revision.revision_id, num)
        failpoint("trainer.forget_tainted")
        await self._datasets.erase(order.tenant, lesson_ids, order.user, order.time)
        failpoint("trainer.forget_erased")
        adapters = await self._adapters.list_all(order.tenant)
        receipt = replace(
            erasure.receipt(TRAINER),
            state=ReceiptState.CONFIRMED,
            revisions=tuple(_told(revision, num, adapters) for revision, num in tainted),
            trouble=None,
        )
        await self._stream.tell(order, receipt)
        _log.info("revisions_tainted", erasure=order.name, number=len(tainted))

    async def _tainted(
        self, order: ErasureOrder, lesson_ids: frozenset[str]
    ) -> list[tuple[Revision, int]]:
        """Revisions that hold examples of the user, and how many, oldest first."""
        found: dict[tuple[str, str], int] = {}
        revisions = list(reversed(await self._revisions.list_all(order.tenant, None)))
        for revision in revisions:
            number = await self._num_examples(order, revision, lesson_ids)
            parent = (revision.adapter_id, revision.parent_revision_id)
            if not revision.manifest.from_base:
                # Training went on from the parent's weights, whatever became of its lessons.
                number = max(number, found.get(parent, 0))
            found[revision.adapter_id, revision.revision_id] = number
        return [
            (revision, number)
            for revision in revisions
            if (number := found[revision.adapter_id, revision.revision_id])
        ]

    async def _num_examples(
        self, order: ErasureOrder, revision: Revision, lesson_ids: frozenset[str]
    ) -> int:
        dataset = await self._datasets.find(order.tenant, revision.manifest.dataset_id)
        if dataset is None:
            evaluation_id = revision.manifest.evaluation_id
            judged = await self._evaluations.get(order.tenant, evaluation_id)
            return len(lesson_ids.intersection(judged.lesson_ids))
        is_old = dataset.create_time <= order.time
        return sum(
            lesson.lesson_id in lesson_ids or (is_old and lesson.user == order.user)
            for lesson in dataset.lessons
        )


def _lesson_ids(events: Sequence[ErasedEvent]) -> frozenset[str]:
    found = [names.parse(names.LESSON, event.lesson) for event in events]
    return frozenset(ids[0] for ids in found if ids)


def _told(revision: Revision, num: int, adapters: Sequence[Adapter]) -> TaintedRevision:
    return TaintedRevision(
        name=names.revision_name(revision.adapter_id, revision.revision_id),
        sha256=revision.sha256,
        num_examples=num,
        aliases=tuple(
            names.alias_name(adapter.adapter_id, alias.alias_id)
            for adapter in adapters
            for alias in adapter.aliases
            if adapter.adapter_id == revision.adapter_id
            and alias.revision_id == revision.revision_id
        ),
    )
