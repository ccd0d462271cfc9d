"""Asks the serving replicas what a new revision has learned, without memory, and writes VERIFIED.

Which lessons still wait is read from the streams each time, so restarts and repeated
acknowledgements change nothing. A lesson that fails stays TRAINED with a reason and is not asked
again until another revision serves.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from selm.errors import SelmError, unavailable
from selm.lessons import LessonRecord, LessonState
from selm.log import get_logger
from selm.names import revision_name
from selm.questions import answer_contains
from trainer_svc.core import STABLE, Failure
from trainer_svc.ports import Heartbeat, Inference, LessonBook, LessonStepWish, Reply
from trainer_svc.registry.adapters import AdapterRegistry
from trainer_svc.registry.jobs import JobRegistry
from trainer_svc.registry.revisions import RevisionRegistry
from trainer_svc.training.keeper import LessonKeeper

_log = get_logger("trainer_svc.verify")

NOT_PROVEN = "not verified"
# Of the paraphrases; the question itself must be answered right.
MIN_PARAPHRASE_SHARE = 0.5
MAX_QUOTE_LENGTH = 80


@dataclass(frozen=True)
class Findings:
    """What was asked about one lesson and how many answers were right."""

    is_question_right: bool
    num_paraphrases: int
    num_right: int
    answer: str
    adapter_reason: str

    @property
    def is_proven(self) -> bool:
        """The weights answer the question, and other wordings of it often enough."""
        needed = MIN_PARAPHRASE_SHARE * self.num_paraphrases
        return self.is_question_right and self.num_right >= needed

    @property
    def reason(self) -> str:
        """Why it is not proven, for people."""
        said = self.answer[:MAX_QUOTE_LENGTH]
        question = "right" if self.is_question_right else f"answered {said!r}"
        return (
            f"{NOT_PROVEN}: question {question}, "
            f"{self.num_right} of {self.num_paraphrases} paraphrases right "
            f"({self.adapter_reason.lower()})"
        )


@dataclass(frozen=True)
class Verifier:
    """Proves lessons in service."""

    book: LessonBook
    adapters: AdapterRegistry
    revisions: RevisionRegistry
    jobs: JobRegistry
    keeper: LessonKeeper
    inference: Inference
    paraphrases_of: Callable[[LessonRecord], Sequence[str]]

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
        waiting = [r for r in await self.book.read(tenant) if _waits(r, serving)]
        for record in waiting:
            await heartbeat()
            findings = await self._examine(record, adapter_id, revision_id)
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
        await self.jobs.change(
            tenant, revision.manifest.job_id, lambda job: replace(job, failure=failure)
        )

    async def _examine(self, record: LessonRecord, adapter_id: str, revision_id: str) -> Findings:
        paraphrases = list(self.paraphrases_of(record))
        replies = await asyncio.gather(
            *(
                self._ask(record, adapter_id, revision_id, question)
                for question in (record.question, *paraphrases)
            )
        )
        rights = [answer_contains(record.answer, reply.text) for reply in replies]
        return Findings(
            is_question_right=rights[0],
            num_paraphrases=len(paraphrases),
            num_right=sum(rights[1:]),
            answer=replies[0].text,
            adapter_reason=replies[0].adapter_reason,
        )

    async def _ask(
        self, record: LessonRecord, adapter_id: str, revision_id: str, question: str
    ) -> Reply:
        try:
            reply = await self.inference.ask(record.tenant, adapter_id, record.user, question)
        except SelmError as error:
            if error.is_retryable:
                raise
            # Asking again gives the same: no answer is a wrong answer.
            return Reply("", revision_id, False, error.reason)
        if reply.revision_id not in ("", revision_id):
            raise unavailable(
                "PEER_UNAVAILABLE",
                f"{revision_name(adapter_id, reply.revision_id)} answered, not yet {revision_id}",
                service="inference",
            )
        return reply

    async def _write(self, record: LessonRecord, serving: str, findings: Findings) -> None:
        state = LessonState.VERIFIED if findings.is_proven else LessonState.TRAINED
        reason = "" if findings.is_proven else findings.reason
        occasion = f"{serving.rpartition('/')[2]}.{record.update_time.timestamp()}.judged"
        await self.book.advance(LessonStepWish(record, state, serving, reason, occasion))
        _log.info(
            "lesson_judged",
            tenant=record.tenant,
            lesson=record.name,
            adapter_revision=serving,
            is_proven=findings.is_proven,
            num_right=findings.num_right,
            num_paraphrases=findings.num_paraphrases,
        )

    async def _still_serves(self, tenant: str, adapter_id: str, revision_id: str) -> bool:
        alias = (await self.adapters.get(tenant, adapter_id)).alias(STABLE)
        return alias is not None and alias.revision_id == revision_id


def _waits(record: LessonRecord, serving: str) -> bool:
    if record.state is not LessonState.TRAINED or record.adapter_revision != serving:
        return False
    return not record.transitions[-1].reason.startswith(NOT_PROVEN)
