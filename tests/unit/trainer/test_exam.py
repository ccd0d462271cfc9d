"""Which answers count as the revision's own, and which say nothing about it."""

from dataclasses import replace

import pytest

from selm.errors import SelmError
from tests.unit.trainer.test_dataset import lesson
from trainer_svc.ports import Reply
from trainer_svc.training.exam import AnotherAnsweredError, Examiner, is_right

RIGHT = Reply("It is answer 1.", "r1", True, "IN_SCOPE")


class InferenceStub:
    """Always replies the same, and notes how much it was allowed to say."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.num_tokens = 0

    async def base_sha256(self) -> str:
        return ""

    async def ask(
        self, tenant: str, adapter_id: str, user: str, question: str, max_output_tokens: int
    ) -> Reply:
        self.num_tokens = max_output_tokens
        return self.reply


def examiner(reply: Reply) -> Examiner:
    return Examiner(InferenceStub(reply), lambda _: ["another wording"])


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (RIGHT, True),
        (replace(RIGHT, is_adapter_applied=False), False),
        (replace(RIGHT, revision_id=""), False),
        (replace(RIGHT, text="I do not know."), False),
    ],
)
async def test_only_the_adapters_own_right_answer_counts(reply, expected) -> None:
    """What the base model knows by itself proves nothing."""
    assert is_right("answer 1", reply, "r1") is expected
    findings = await examiner(reply).examine(lesson(1), "default", "r1")
    assert findings.is_proven is expected


@pytest.mark.parametrize(
    "reply",
    [
        replace(RIGHT, revision_id="r2"),
        Reply("x", "", False, "NOTHING_PROMOTED"),
    ],
)
async def test_a_replica_that_does_not_serve_it_yet_is_no_judgement(reply) -> None:
    """The lesson is asked again when the replica has caught up."""
    with pytest.raises(AnotherAnsweredError):
        await examiner(reply).examine(lesson(1), "default", "r1")


async def test_while_memory_is_away_nothing_is_judged() -> None:
    """Inference leaves the adapter out then; a retired lesson must not step back for that."""
    with pytest.raises(SelmError) as error:
        away = Reply("x", "", False, "SCOPE_UNKNOWN")
        await examiner(away).examine(lesson(1), "default", "r1")

    assert error.value.is_retryable


@pytest.mark.parametrize(("answer", "num_tokens"), [("teal", 48), ("a" * 200, 104)])
async def test_a_longer_answer_may_take_longer(answer, num_tokens) -> None:
    """Else it could never be proven."""
    asked = examiner(RIGHT)
    await asked.examine(lesson(1, answer=answer), "default", "r1")

    assert asked.inference.num_tokens == num_tokens
