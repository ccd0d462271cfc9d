"""What feedback_svc does of an erasure, step by step; called at whatever was said of it.

HIDDEN      FEEDBACK, its lessons, generations, datasets and copies in other queues are purged; now
            the others know every event that went, and nothing old of the user can reach them
CONFIRMED   memory_svc and trainer_svc have confirmed, tainted adapters are asked to be rebuilt,
            and what was said of the lessons meanwhile is purged too
"""

from dataclasses import replace

from feedback_svc import core, forgetting
from feedback_svc.erasure.copy_purge import CopyPurge
from feedback_svc.erasure.feedback_purge import FeedbackPurge
from selm import names
from selm.erasure_bus import ErasureStream
from selm.erasures import MEMORY, TRAINER, Erasure, Receipt, ReceiptState
from selm.errors import SelmError
from selm.log import get_logger
from selm.testing import failpoint

_log = get_logger("feedback_svc.erasure")


class Part:
    """Fulfils selm.erasure_bus.Act."""

    def __init__(
        self,
        stream: ErasureStream,
        feedback: FeedbackPurge,
        copies: CopyPurge,
        datasets: forgetting.Datasets,
        rebuilder: forgetting.Rebuilder,
    ) -> None:
        self._stream = stream
        self._feedback = feedback
        self._copies = copies
        self._datasets = datasets
        self._rebuilder = rebuilder

    async def __call__(self, erasure: Erasure) -> None:
        """Does what is next; again, what is left of it."""
        if erasure.is_confirmed_by(MEMORY, TRAINER):
            await self._finish(erasure)
        elif erasure.receipt(core.SERVICE).state is not ReceiptState.HIDDEN:
            await self._hide(erasure)

    async def _hide(self, erasure: Erasure) -> None:
        order, before = erasure.order, erasure.receipt(core.SERVICE)
        failpoint("feedback.erasure_begin")
        purged = await self._feedback.purge(order)
        generations = await self._copies.generations(order)
        # Told before they are purged: a repeat after a crash cannot count them any more.
        told = replace(
            _fresh(before),
            num_feedback=len(purged.events),
            num_generations=max(before.num_generations, len(generations)),
        )
        await self._stream.tell(order, told)
        await self._copies.purge_generations(generations)
        await self._copies.purge_copies(order, purged)
        failpoint("feedback.erasure_copies")
        num = await self._datasets.erase(order.tenant, [event.name for event in purged.events])
        hidden = replace(
            told, state=ReceiptState.HIDDEN, num_datasets=max(before.num_datasets, num)
        )
        await self._stream.tell(order, hidden)

    async def _finish(self, erasure: Erasure) -> None:
        order = erasure.order
        for adapter in _adapters_to_rebuild(erasure):
            await self._rebuild(erasure, adapter)
        failpoint("feedback.erasure_rebuilds")
        # What was being answered when the erasure was asked for has been stored since.
        late = await self._copies.generations(order)
        await self._copies.purge_generations(late)
        purged = await self._feedback.purge(order)
        # So has what was on its way to another queue, or into a dataset.
        await self._copies.purge_copies(order, purged)
        num = await self._datasets.erase(order.tenant, [event.name for event in purged.events])
        failpoint("feedback.erasure_finish")
        own = erasure.receipt(core.SERVICE)
        done = replace(
            _fresh(own),
            state=ReceiptState.CONFIRMED,
            num_feedback=len(purged.events),
            num_generations=own.num_generations + len(late),
            num_datasets=own.num_datasets + num,
        )
        await self._stream.tell(order, done)
        _log.info("user_erased", erasure=order.name, num_events=done.num_feedback)

    async def _rebuild(self, erasure: Erasure, adapter: str) -> None:
        try:
            await self._rebuilder.rebuild(erasure.order, adapter)
        except SelmError as error:
            if error.is_retryable:
                raise
            # As a rule nothing is left to learn; the receipt says which aliases still point there.
            _log.warning("not_rebuilt", adapter=adapter, error=str(error))


def _fresh(receipt: Receipt) -> Receipt:
    return replace(receipt, state=ReceiptState.PENDING, trouble=None)


def _adapters_to_rebuild(erasure: Erasure) -> list[str]:
    """Adapters with an alias on a tainted revision, which serves until another takes its place."""
    revisions = erasure.receipt(TRAINER).revisions
    found = [names.parse(names.REVISION, r.name) for r in revisions if r.aliases]
    return sorted({names.adapter_name(ids[0]) for ids in found if ids})
