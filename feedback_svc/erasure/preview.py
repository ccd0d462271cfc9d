"""What would go if a user were forgotten now: counted, nothing changed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from feedback_svc import core, forgetting
from feedback_svc.erasure.copy_purge import CopyPurge
from selm.erasures import FEEDBACK, MEMORY, TRAINER, Erasure, ErasureOrder, Receipt, TaintedRevision
from selm.lessons import LessonRecord


@dataclass(frozen=True)
class Preview:
    """Counts by what this service knows, and asks memory_svc for its part."""

    # Of a tenant, as they are now.
    events: Callable[[str], Iterable[core.FeedbackRecord]]
    lessons: Callable[[str], Iterable[LessonRecord]]
    copies: CopyPurge
    memories: forgetting.MemoryCount

    async def of(self, order: ErasureOrder) -> Erasure:
        own = Receipt(
            FEEDBACK,
            num_feedback=sum(
                event.user == order.user and event.state is not core.EventState.ERASED
                for event in self.events(order.tenant)
            ),
            num_generations=len(await self.copies.generations(order)),
        )
        receipts = {
            MEMORY: await self.memories.count(order.tenant, order.user),
            FEEDBACK: own,
            TRAINER: Receipt(TRAINER, revisions=self._revisions(order)),
        }
        return Erasure(order, receipts)

    def _revisions(self, order: ErasureOrder) -> tuple[TaintedRevision, ...]:
        """The newest that each lesson is known to be in; trainer_svc finds the older ones too."""
        numbers: dict[str, int] = {}
        for lesson in self.lessons(order.tenant):
            if lesson.user == order.user and lesson.adapter_revision:
                numbers[lesson.adapter_revision] = numbers.get(lesson.adapter_revision, 0) + 1
        return tuple(TaintedRevision(name, "", number) for name, number in sorted(numbers.items()))
