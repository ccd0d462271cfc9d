"""Asks the serving replicas what a new revision has learned, without memory, and writes VERIFIED.

Which lessons still wait is read from the streams each time, so restarts and repeated
acknowledgements change nothing. A lesson that was proven on another revision is asked again: what
one revision knew, its successor or predecessor may not know. A lesson that fails keeps a reason
and is not asked again until another revision serves.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from selm.errors import unavailable
from selm.lessons import LessonRecord, LessonState
from selm.log import get_logger
from selm.names import adapter_name, revision_name
from trainer_svc.core import STABLE, Failure, now
from trainer_svc.ports import Announcer, Heartbeat, LessonBook, LessonStepWish
from trainer_svc.registry.adapters import AdapterRegistry
from trainer_svc.registry.jobs import JobRegistry
from trainer_svc.registry.revisions import RevisionRegistry
from trainer_svc.training.exam import NOT_PROVEN, AnotherAnsweredError, Examiner, Findings
from trainer_svc.training.keeper import LessonKeeper
from trainer_svc.training.watch import JobWatch

_log = get_logger("trainer_svc.verify")

PROVEN = frozenset({LessonState.VERIFIED, LessonState.RETIRED})
# Unlike NOT_PROVEN: the next acknowledgement asks again.
NOT_ASKED = "not asked yet"
# Replicas take a revision over one after the other; longer than this it is worth telling.
MAX_WAIT_S = 60.0


@dataclass(frozen=True)
class Verifier:
    """Proves lessons in service."""

    book: LessonBook
    adapters: AdapterRegistry
    revisions: RevisionRegistry
    jobs: JobRegistry
    keeper: LessonKeeper
    examiner: Examiner
    announcer: Announcer
    watch: JobWatch
    clock: Callable[[], float] = time.monotonic
    # Since when another revision answers in place of the one that serves, by tenant and name.
    strange_since: dict[tuple[str, str], float] = field(default_factory=dict)

    async def serving(
        self, tenant: str, adapter_id: str, revision_id: str, heartbeat: Heartbeat
    ) -> None:
        """A replica serves the revision: asks every lesson that waits for proof.

        PEER_UNAVAILABLE if inference does not answer; what was found until then is kept.
        """
        if not await self._still_serves(tenant, adapter_id, revision_id):
            return
        # The acknowledgement may be faster than the steps that follow the alias.
        await self.keeper.settle(tenant, adapter_id)
        serving = revision_name(adapter_id, revision_id)
        waiting = await self._waiting(tenant, adapter_id, revision_id)
        for position, record in enumerate(waiting):
            await heartbeat()
            try:
                findings = await self.examiner.examine(record, adapter_id, revision_id)
            except AnotherAnsweredError as error:
                await self._put_off(tenant, serving, error, waiting[position:])
                return
            self.strange_since.pop((tenant, serving), None)
            if not await self._still_serves(tenant, adapter_id, revision_id):
                return
            await self._write(record, serving, findings)

    async def refused(
        self, tenant: str, adapter_id: str, revision_id: str, replica: str, why: Failure
    ) -> None:
        """A replica refuses the revision and keeps what it served: the job's record says so."""
        _log.error(
            "revision_refused",
            tenant=tenant,
            adapter=adapter_id,
            revision=revision_id,
            replica=replica,
            reason=why.reason,
            message=why.message,
        )
        revision = await self.revisions.get(tenant, adapter_id, revision_id)
        failure = replace(why, message=f"{replica} refused it: {why.message}")
        job = await self.jobs.change(
            tenant,
            revision.manifest.job_id,
            lambda job: replace(job, failure=failure, update_time=now()),
        )
        await self.announcer.job_updated(job, f"{job.job_id}.{revision_id}.{replica}.refused")
        self.watch.tell(job)

    async def _waiting(
        self, tenant: str, adapter_id: str, revision_id: str
    ) -> tuple[LessonRecord, ...]:
        serving = revision_name(adapter_id, revision_id)
        held = await self.keeper.held_lessons(tenant, adapter_id, revision_id)
        return tuple(
            record
            for record in await self.book.read(tenant)
            if record.adapter == adapter_name(adapter_id) and _waits(record, serving, held)
        )

    async def _put_off(
        self,
        tenant: str,
        serving: str,
        error: AnotherAnsweredError,
        waiting: tuple[LessonRecord, ...],
    ) -> None:
        """Asks to be called again, or tells why the lessons wait if that has gone on too long."""
        since = self.strange_since.setdefault((tenant, serving), self.clock())
        if self.clock() - since < MAX_WAIT_S:
            text = f"{error}, not yet {serving}"
            raise unavailable("PEER_UNAVAILABLE", text, service="inference") from error
        del self.strange_since[(tenant, serving)]
        _log.warning("another_revision_answers", tenant=tenant, serving=serving, error=str(error))
        reason = f"{NOT_ASKED}: {error} for {MAX_WAIT_S:.0f} s although {serving} is to serve"
        for record in waiting:
            # Of those proven before nothing worse is known, so they keep their state.
            if record.state is LessonState.TRAINED:
                await self._advance(record, LessonState.TRAINED, serving, reason)

    async def _write(self, record: LessonRecord, serving: str, findings: Findings) -> None:
        reason = "" if findings.is_proven else findings.reason
        await self._advance(record, _verdict(record, findings), serving, reason)
        _log.info(
            "lesson_judged",
            tenant=record.tenant,
            lesson=record.name,
            adapter_revision=serving,
            is_proven=findings.is_proven,
            num_right=findings.num_right,
            num_paraphrases=findings.num_paraphrases,
        )

    async def _advance(
        self, record: LessonRecord, state: LessonState, serving: str, reason: str
    ) -> None:
        occasion = f"{serving.rpartition('/')[2]}.{record.update_time.timestamp()}.judged"
        await self.book.advance(LessonStepWish(record, state, serving, reason, occasion))

    async def _still_serves(self, tenant: str, adapter_id: str, revision_id: str) -> bool:
        alias = (await self.adapters.get(tenant, adapter_id)).alias(STABLE)
        return alias is not None and alias.revision_id == revision_id


def _waits(record: LessonRecord, serving: str, held: frozenset[str]) -> bool:
    if record.state in PROVEN:
        return record.name in held and record.adapter_revision != serving
    if record.state is not LessonState.TRAINED or record.adapter_revision != serving:
        return False
    return not record.transitions[-1].reason.startswith(NOT_PROVEN)


def _verdict(record: LessonRecord, findings: Findings) -> LessonState:
    if findings.is_proven:
        return LessonState.VERIFIED
    # A proven lesson's memory is retired: stepping back to REMEMBERED revives it.
    return LessonState.REMEMBERED if record.state in PROVEN else LessonState.TRAINED
