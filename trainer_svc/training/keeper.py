"""Keeps the lessons' states true to what `stable` holds, after every move of it.

Works from the present alone (streams, alias, dataset), so repeating it changes nothing and a crash
anywhere is made good by the next call.
"""

from selm.errors import SelmError
from selm.lessons import LessonRecord, LessonState
from selm.names import adapter_name, dataset_name, lesson_name, revision_name, training_job_name
from selm.names import training_request_name as request_name
from trainer_svc.core import STABLE, Alias
from trainer_svc.jobs import Dataset, TrainingJob
from trainer_svc.ports import LessonBook, LessonStepWish
from trainer_svc.registry.adapters import AdapterRegistry
from trainer_svc.registry.datasets import EvaluationRegistry
from trainer_svc.registry.revisions import RevisionRegistry
from trainer_svc.training.exam import NOT_PROVEN

IN_WEIGHTS = frozenset({LessonState.TRAINED, LessonState.VERIFIED, LessonState.RETIRED})
NOT_YET = frozenset({LessonState.RECEIVED, LessonState.REMEMBERED, LessonState.QUEUED})


class LessonKeeper:
    """Announces TRAINED for what the serving revision holds and REMEMBERED for what it lacks."""

    def __init__(
        self,
        book: LessonBook,
        adapters: AdapterRegistry,
        revisions: RevisionRegistry,
        evaluations: EvaluationRegistry,
    ) -> None:
        self._book = book
        self._adapters = adapters
        self._revisions = revisions
        self._evaluations = evaluations

    async def settle(self, tenant: str, adapter_id: str) -> None:
        """Takes the steps that the present position of `stable` calls for."""
        alias = (await self._adapters.get(tenant, adapter_id)).alias(STABLE)
        if alias is None:
            return
        held = await self.held_lessons(tenant, adapter_id, alias.revision_id)
        for record in await self._book.read(tenant):
            if record.adapter == adapter_name(adapter_id):
                wish = _step(record, held, alias)
                if wish is not None:
                    await self._book.advance(wish)

    async def require_eligible(self, dataset: Dataset) -> None:
        """STATE_CONFLICT if a lesson may not be taught any more: its reach was narrowed since the
        dataset was frozen, it was turned down, or what it said was deleted or erased."""
        adapter = adapter_name(dataset.adapter_id)
        records = await self._book.read(dataset.tenant)
        eligible = {record.name for record in records if _is_eligible(record, adapter)}
        lost = sorted(set(map(lesson_name, dataset.lesson_ids)) - eligible)
        if lost:
            raise SelmError(
                "STATE_CONFLICT",
                f"{len(lost)} lessons of its dataset may not train {adapter} any more",
                metadata={"dataset": dataset_name(dataset.dataset_id), "lesson": lost[0]},
            )

    async def give_back(self, job: TrainingJob, reason: str) -> None:
        """Returns to memory the lessons that waited for this job and are in no weights."""
        wanted = request_name(job.request_id)
        for record in await self._book.read(job.tenant):
            if record.state is LessonState.QUEUED and record.training_request == wanted:
                await self._book.advance(
                    LessonStepWish(
                        record,
                        LessonState.REMEMBERED,
                        training_job_name(job.job_id),
                        reason,
                        occasion=job.job_id,
                    )
                )

    async def held_lessons(self, tenant: str, adapter_id: str, revision_id: str) -> frozenset[str]:
        """Names of the lessons a revision holds, as recorded when it was judged."""
        revision = await self._revisions.get(tenant, adapter_id, revision_id)
        evaluation = await self._evaluations.get(tenant, revision.manifest.evaluation_id)
        return frozenset(lesson_name(lesson_id) for lesson_id in evaluation.lesson_ids)


def _is_eligible(record: LessonRecord, adapter: str) -> bool:
    # What was superseded meanwhile was right when it was said, and the newer one is taught next.
    is_still_said = record.is_live or record.state is LessonState.SUPERSEDED
    return record.may_train and record.adapter == adapter and is_still_said


def _step(record: LessonRecord, held: frozenset[str], alias: Alias) -> LessonStepWish | None:
    serving = revision_name(alias.adapter_id, alias.revision_id)
    occasion = f"{alias.revision_id}.{alias.epoch}"
    if record.name not in held:
        if record.state not in IN_WEIGHTS:
            return None
        why = f"{serving} serves and does not hold it"
        if alias.reason:
            why = f"{why}: {alias.reason}"
        return LessonStepWish(record, LessonState.REMEMBERED, serving, why, occasion)
    if record.state is LessonState.REMEMBERED and _was_disproved(record, serving):
        return None
    is_moved_on = record.state is LessonState.TRAINED and record.adapter_revision != serving
    if record.state in NOT_YET or is_moved_on:
        return LessonStepWish(record, LessonState.TRAINED, serving, "", occasion)
    return None


def _was_disproved(record: LessonRecord, serving: str) -> bool:
    """The revision was asked and does not know it, whatever it was trained on."""
    last = record.transitions[-1]
    return last.resource == serving and last.reason.startswith(NOT_PROVEN)
