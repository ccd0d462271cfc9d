"""Lessons as token rows: prompt and answer, the shared opening split off, batches drawn per epoch.

Knows the tokenizer and its chat template; knows no model and no loss.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Self

from trainer_svc.training.templates import training_variants


@dataclass(frozen=True)
class Lesson:
    """One fact to hold: a question, its right answer, and how users reworded the question."""

    lesson: str
    feedback_event: str
    question: str
    answer: str
    paraphrases: tuple[str, ...] = ()
    replayed: bool = False
    is_new: bool = True  # belongs to this round; else it was learned before and must stay

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Reads a lesson of a job file."""
        return cls(
            lesson=values["lesson"],
            feedback_event=values.get("feedback_event", ""),
            question=values["question"].strip(),
            answer=values["answer"].strip(),
            paraphrases=tuple(values.get("paraphrases") or ()),
            replayed=bool(values.get("replayed")),
            is_new=values.get("round", "new") == "new",
        )


@dataclass(frozen=True)
class Row:
    """Tokens after the shared opening: what is asked, and what is to be answered."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads; the last answer token is only predicted."""
        return self.prompt + self.answer[:-1]

    @property
    def answer_start(self) -> int:
        """Position in inputs whose prediction is the first answer token."""
        return len(self.prompt) - 1


class Encoder:
    """Questions and answers to tokens, exactly as serving renders a chat of one user turn."""

    def __init__(self, tokenizer: Any, *, max_length: int = 1024) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError("the base model's tokenizer has no chat template")
        self._tokenizer = tokenizer
        self._max_length = max_length
        samples = [self._tokens(text) for text in ("Ab", "7 c", "(x)", "é")]
        columns = zip(*samples, strict=False)
        same = takewhile(lambda column: len(set(column)) == 1, columns)
        # Every prompt begins with these tokens (the system turn): computed once for all rows.
        self.prefix = tuple(column[0] for column in same)
        self.end_token = self._end_token()

    def prompt(self, question: str) -> tuple[int, ...]:
        """Tokens of the rendered question after the prefix, ready for the answer."""
        tokens = self._tokens(question.strip())
        if tokens[: len(self.prefix)] != self.prefix:
            raise ValueError(f"the chat template renders {question!r} unlike other questions")
        return tokens[len(self.prefix) :]

    def row(self, question: str, answer: str) -> Row:
        """A question with its right answer and the end of the turn."""
        return Row(self.prompt(question), (*self._encode(answer.strip()), self.end_token))

    def fits(self, row: Row) -> bool:
        """Whether the row stays within the longest sequence allowed."""
        return len(self.prefix) + len(row.inputs) <= self._max_length

    def num_answer_tokens(self, answer: str) -> int:
        """Length of an answer with its end."""
        return len(self._encode(answer.strip())) + 1

    def text(self, tokens: Sequence[int]) -> str:
        """Readable text of generated tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def _tokens(self, question: str) -> tuple[int, ...]:
        return self._encode(self._render([{"role": "user", "content": question}], opened=True))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _render(self, messages: list[dict[str, str]], *, opened: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=opened
            )
        )

    def _end_token(self) -> int:
        """The token that closes an assistant's turn in this template."""
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "xyzzy"}]
        closing = self._encode(self._render(turns, opened=False).rpartition("xyzzy")[2])
        special = set(self._tokenizer.all_special_ids)
        end = next((token for token in closing if token in special), self._tokenizer.eos_token_id)
        if end is None:
            raise ValueError("the base model's tokenizer has no end of turn")
        return int(end)


class Lessons:
    """The rows of a training: each lesson as typed and reworded; draws the batches of an epoch."""

    def __init__(self, lessons: Sequence[Lesson], encoder: Encoder) -> None:
        self.rows: list[list[Row]] = []  # per lesson, as typed first
        self.lessons: list[Lesson] = []  # those that fit; a longer one is left out
        for lesson in lessons:
            wordings = [lesson.question, *training_variants(lesson.question, lesson.paraphrases)]
            rows = [encoder.row(wording, lesson.answer) for wording in wordings]
            rows = [row for row in rows if encoder.fits(row)]
            if rows:
                self.rows.append(rows)
                self.lessons.append(lesson)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches it takes to show every lesson once."""
        return -(-len(self.rows) // batch_size)

    def epoch(
        self, batch_size: int, variant_share: float, generator: random.Random
    ) -> Iterator[list[Row]]:
        """Every lesson once, in random order, in batches of nearly equal size."""
        order = generator.sample(range(len(self.rows)), len(self.rows))
        num_batches = self.steps_per_epoch(batch_size)
        for first in range(num_batches):
            yield [
                self._draw(self.rows[index], variant_share, generator)
                for index in order[first::num_batches]
            ]

    def _draw(self, rows: list[Row], variant_share: float, generator: random.Random) -> Row:
        if len(rows) == 1 or generator.random() >= variant_share:
            return rows[0]
        return generator.choice(rows[1:])
