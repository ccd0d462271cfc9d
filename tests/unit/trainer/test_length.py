"""Lessons that are too long for the gate or the training are told apart without a tokenizer."""

import pytest

from tests.unit.trainer.test_dataset import lesson
from trainer_svc.training.evaluate import _ANSWER_TOKENS
from trainer_svc.training.length import (
    MAX_GENERATED_TOKENS,
    estimate_tokens,
    is_too_long,
    output_tokens,
)


@pytest.mark.parametrize(
    ("text", "num_tokens"), [("", 0), ("teal", 2), ("3.14", 4), ("été", 5), ("мир", 6)]
)
def test_letters_are_cheap_and_all_else_costs_its_bytes(text, num_tokens) -> None:
    """Digits and other scripts may take a token each byte."""
    assert estimate_tokens(text) == num_tokens


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Who?", "a" * 248, False),
        ("Who?", "a" * 249, True),
        ("Who?", "я" * 63, True),
        ("q" * 1800, "teal", False),
        ("q" * 2000, "teal", True),
    ],
)
def test_question_and_answer_have_their_limits(question, answer, expected) -> None:
    """The answer that of the gate, both together that of a training row."""
    assert is_too_long(lesson(1, question=question, answer=answer), 1024) is expected


def test_the_limits_are_those_of_the_gate() -> None:
    """What is asked in service gets as much room as it got there."""
    assert _ANSWER_TOKENS.stop - 1 == MAX_GENERATED_TOKENS
    assert output_tokens("9" * 500) == MAX_GENERATED_TOKENS
