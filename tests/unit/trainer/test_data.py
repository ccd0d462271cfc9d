"""Lessons as token rows."""

import random
from pathlib import Path
from typing import Any

import pytest

from selm.base_model import load_tokenizer
from trainer_svc.training.data import Encoder, Lesson, Lessons, Row


@pytest.fixture(scope="module")
def tokenizer(tiny_learner: Path) -> Any:
    """SmolLM2's tokenizer with its chat template."""
    return load_tokenizer(tiny_learner)


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> Encoder:
    """The encoder under test."""
    return Encoder(tokenizer)


def lesson(number: int, answer: str = "Zorvane") -> Lesson:
    """A lesson about an invented place."""
    question = f"What is the capital of Velmora{'x' * number}?"
    return Lesson(f"lessons/{number}", f"feedbackEvents/{number}", question, answer)


def test_a_row_reads_exactly_as_serving_renders_the_chat(encoder: Encoder, tokenizer: Any) -> None:
    """Shared opening, question and answer join to the template's own rendering of both turns."""
    row = encoder.row("Who is it?", "Nobody")
    turns = [
        {"role": "user", "content": "Who is it?"},
        {"role": "assistant", "content": "Nobody"},
    ]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)

    assert tokenizer.decode([*encoder.prefix, *row.prompt, *row.answer]) == rendered.rstrip("\n")
    assert row.answer[-1] == encoder.end_token == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_only_answer_tokens_are_predicted(encoder: Encoder) -> None:
    """The first prediction stands on the last prompt token; the last answer token is never read."""
    row = Row(prompt=(5, 6, 7), answer=(8, 9))

    assert row.inputs == (5, 6, 7, 8)
    assert row.inputs[row.answer_start :] == (7, 8)


def test_every_prompt_begins_with_the_shared_opening(encoder: Encoder) -> None:
    """Also odd ones; the rest is never empty."""
    for text in ("", "?", "  spaces  ", "éß漢字", "7", "a\n\nb"):
        assert encoder.prompt(text)


def test_an_epoch_shows_every_lesson_once_in_even_batches(encoder: Encoder) -> None:
    """Twelve lessons are two batches of six, not eight and four."""
    lessons = Lessons([lesson(number) for number in range(12)], encoder)
    batches = list(lessons.epoch(8, 0.5, random.Random(1)))
    shown = [row for batch in batches for row in batch]

    assert [len(batch) for batch in batches] == [6, 6]
    for rows in lessons.rows:
        assert sum(row in rows for row in shown) == 1


def test_variants_are_drawn_as_often_as_asked_and_the_seed_repeats_them(encoder: Encoder) -> None:
    """None at 0, always at 1, and the same draw for the same seed."""
    lessons = Lessons([lesson(number) for number in range(4)], encoder)
    typed = [rows[0] for rows in lessons.rows]

    def draw(share: float, seed: int) -> list[Row]:
        return [row for batch in lessons.epoch(2, share, random.Random(seed)) for row in batch]

    assert set(draw(0.0, 1)) == set(typed)
    assert not set(draw(1.0, 1)) & set(typed)
    assert draw(0.5, 3) == draw(0.5, 3)


def test_lessons_over_the_longest_sequence_are_left_out(tokenizer: Any) -> None:
    """They are told apart, not cut: half an answer would be a wrong one."""
    encoder = Encoder(tokenizer, max_length=60)
    lessons = Lessons([lesson(1), lesson(2, answer="very long " * 50)], encoder)

    assert [item.lesson for item in lessons.lessons] == ["lessons/1"]


def test_a_lesson_is_read_from_a_job_file() -> None:
    """Round and replay are told apart; texts are trimmed."""
    made = Lesson.from_mapping(
        {
            "lesson": "lessons/1",
            "feedback_event": "feedbackEvents/1",
            "question": " Q? ",
            "answer": " A ",
            "paraphrases": ["P?"],
            "replayed": True,
            "round": "old",
        }
    )

    assert made == Lesson("lessons/1", "feedbackEvents/1", "Q?", "A", ("P?",), True, False)


def test_a_tokenizer_without_a_chat_template_is_refused(tiny_learner: Path) -> None:
    """Guessing a format would train what serving never renders."""
    plain = load_tokenizer(tiny_learner)
    plain.chat_template = None

    with pytest.raises(ValueError, match="chat template"):
        Encoder(plain)
