"""Puts one lesson's questions to the serving replicas, without memory, and marks the answers.

An answer counts only if the adapter gave it, in the revision that is to be proven.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selm.errors import SelmError, unavailable
from selm.lessons import LessonRecord
from selm.questions import answer_contains
from trainer_svc.ports import Inference, Reply
from trainer_svc.training.length import output_tokens

NOT_PROVEN = "not verified"
# Of the paraphrases; the question itself must be answered right.
MIN_PARAPHRASE_SHARE = 0.5
MAX_QUOTE_LENGTH = 80


class AnotherAnsweredError(Exception):
    """A replica answered with another revision: it has not taken over the wanted one yet."""

    def __init__(self, revision_id: str) -> None:
        super().__init__(f"{revision_id or 'the base model'} answered")


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
class Examiner:
    """Asks a lesson in all its wordings at once."""

    inference: Inference
    paraphrases_of: Callable[[LessonRecord], Sequence[str]]

    async def examine(self, record: LessonRecord, adapter_id: str, revision_id: str) -> Findings:
        """What the revision knows of the lesson.

        AnotherAnsweredError if a reply came from another revision; PEER_UNAVAILABLE if none came.
        """
        paraphrases = list(self.paraphrases_of(record))
        replies = await asyncio.gather(
            *(
                self._ask(record, adapter_id, revision_id, question)
                for question in (record.question, *paraphrases)
            )
        )
        rights = [is_right(record.answer, reply, revision_id) for reply in replies]
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
            reply = await self.inference.ask(
                record.tenant, adapter_id, record.user, question, output_tokens(record.answer)
            )
        except SelmError as error:
            if error.is_retryable:
                raise
            # Asking again gives the same: no answer is a wrong answer.
            return Reply("", revision_id, False, error.reason)
        if reply.adapter_reason == "SCOPE_UNKNOWN" and not reply.is_adapter_applied:
            # Memory is away and the adapter was left out; that says nothing of what it knows.
            text = "inference cannot tell what the adapter is for"
            raise unavailable("PEER_UNAVAILABLE", text, service="memory")
        if reply.adapter_reason == "NOTHING_PROMOTED" or reply.revision_id not in ("", revision_id):
            raise AnotherAnsweredError(reply.revision_id)
        return reply


def is_right(expected: str, reply: Reply, revision_id: str) -> bool:
    """The answer is right and the revision's own: what the base knows proves nothing. Pure."""
    is_its_own = reply.is_adapter_applied and reply.revision_id == revision_id
    return is_its_own and answer_contains(expected, reply.text)
