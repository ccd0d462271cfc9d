"""Asks every arm the gate's questions by free generation, on one code path and in equal batches.

Base, serving baseline and candidate are the same model with other matrices switched on. Measures;
`gates` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selm.questions import answer_contains, normalise
from trainer_svc.training import lora
from trainer_svc.training.answers import is_sound
from trainer_svc.training.body import Body, chunks
from trainer_svc.training.data import Encoder, Lesson, Row
from trainer_svc.training.gates import (
    BASE,
    BASELINE,
    CANDIDATE,
    EFFICACY,
    FLUENCY,
    NEIGHBOR,
    PARAPHRASE,
    RETENTION,
    SUPERSEDED,
    Example,
    Measurement,
)
from trainer_svc.training.replays import answered
from trainer_svc.training.templates import held_out_paraphrases, neighbor_prompts
from trainer_svc.training.texts import generic_prompts, swap_prompts

NUM_SCORED_TOKENS = 12
NUM_OPEN_PROMPTS = 20
NUM_OPEN_TOKENS = 24
NUM_NEIGHBORS = 16
NUM_SWAPS = 8
_SCORED_ROWS = 24
_ANSWER_TOKENS = range(16, 129)  # bounds of what a lesson may take to answer


@dataclass(frozen=True)
class Outdated:
    """An answer that a newer lesson replaced."""

    question: str
    answer: str


@dataclass(frozen=True)
class _Probe:
    slice: str
    prompt: str
    lesson: str = ""
    expected: str = ""


def evaluate(
    body: Body,
    peft_model: Any,
    encoder: Encoder,
    lessons: Sequence[Lesson],
    outdated: Sequence[Outdated],
    arms: Sequence[str],
    cache: Path | None,
    report: Callable[[float], None],
) -> Measurement:
    """All slices that have something to ask. `report` gets the share done, 0 to 1."""
    longest = max((encoder.num_answer_tokens(lesson.answer) for lesson in lessons), default=0)
    num_tokens = min(max(longest + 4, _ANSWER_TOKENS.start), _ANSWER_TOKENS.stop - 1)
    new = [lesson for lesson in lessons if lesson.is_new]
    old = [lesson for lesson in lessons if not lesson.is_new]
    today = BASELINE if BASELINE in arms else BASE
    plan: list[tuple[list[_Probe], tuple[str, ...], int]] = [
        (_as_taught(EFFICACY, new), tuple(arms), num_tokens),
        (_reworded(new), (CANDIDATE,), num_tokens),
        (_as_taught(RETENTION, old), (today, CANDIDATE), num_tokens),
        (_outdated(outdated, lessons), (CANDIDATE,), num_tokens),
        (_neighbors(new or old), (BASE, CANDIDATE), NUM_SCORED_TOKENS),
        (_open_prompts(), (BASE, CANDIDATE), NUM_OPEN_TOKENS),
    ]
    total = sum(len(probes) * len(asked) * tokens for probes, asked, tokens in plan) or 1
    done = 0
    examples: list[Example] = []
    for probes, asked, tokens in plan:
        answers: dict[str, list[str]] = {}
        for arm in asked if probes else ():
            # What the base says to open prompts never changes; it is read from disk.
            known = cache if arm == BASE and probes[0].slice == FLUENCY else None
            with lora.speaking_as(peft_model, arm):
                rows = answered(body, encoder, [probe.prompt for probe in probes], tokens, known)
            answers[arm] = [encoder.text(row.answer) for row in rows]
            done += len(probes) * tokens
            report(0.85 * done / total)
        for number, probe in enumerate(probes):
            examples.append(_judged(probe, {arm: answers[arm][number] for arm in asked}))
    kept, num_prompts = _tokens_kept(body, peft_model, encoder, arms, cache)
    report(1.0)
    return Measurement(
        examples=examples,
        tokens_kept=kept,
        num_scored_prompts=num_prompts,
        num_leaked=_num_leaked(examples, [lesson.answer for lesson in lessons]),
    )


def _as_taught(name: str, lessons: Sequence[Lesson]) -> list[_Probe]:
    return [_Probe(name, item.question, item.lesson, item.answer) for item in lessons]


def _reworded(lessons: Sequence[Lesson]) -> list[_Probe]:
    return [
        _Probe(PARAPHRASE, wording, item.lesson, item.answer)
        for item in lessons
        for wording in held_out_paraphrases(item.question, item.paraphrases)
    ]


def _outdated(outdated: Sequence[Outdated], lessons: Sequence[Lesson]) -> list[_Probe]:
    """Asked in the words of the lesson it replaced; `expected` is what must not be said."""
    live = {normalise(lesson.question): lesson for lesson in lessons}
    probes = []
    for item in outdated:
        newer = live.get(normalise(item.question))
        # An old answer inside the right one ("1931" in "May 1931") cannot be told apart.
        if newer is None or not answer_contains(item.answer, newer.answer):
            lesson = newer.lesson if newer else ""
            probes.append(_Probe(SUPERSEDED, item.question, lesson, item.answer))
    return probes


def _neighbors(lessons: Sequence[Lesson]) -> list[_Probe]:
    per_lesson = max(1, NUM_NEIGHBORS // max(1, len(lessons)))
    prompts: list[str] = []
    for number, lesson in enumerate(lessons):
        start = number * per_lesson
        prompts += neighbor_prompts(lesson.question, "gate", min(per_lesson, 2), start=start)
    prompts = prompts[:NUM_NEIGHBORS] + swap_prompts("gate", NUM_SWAPS, seed=0)
    return [_Probe(NEIGHBOR, prompt) for prompt in dict.fromkeys(prompts)] if lessons else []


def _open_prompts() -> list[_Probe]:
    return [_Probe(FLUENCY, prompt) for prompt in generic_prompts("gate")[:NUM_OPEN_PROMPTS]]


def _judged(probe: _Probe, answers: dict[str, str]) -> Example:
    if probe.slice == NEIGHBOR:
        passed = {arm: text == answers[BASE] for arm, text in answers.items()}
    elif probe.slice == FLUENCY:
        passed = {arm: is_sound(text) for arm, text in answers.items()}
    else:
        wants = probe.slice != SUPERSEDED
        passed = {a: answer_contains(probe.expected, text) is wants for a, text in answers.items()}
    return Example(probe.slice, probe.lesson, probe.prompt, probe.expected, answers, passed)


def _num_leaked(examples: Sequence[Example], taught: Sequence[str]) -> int:
    """Neighbour answers in which the candidate says a taught answer and the base does not."""
    return sum(
        any(
            answer_contains(answer, example.answers[CANDIDATE])
            and not answer_contains(answer, example.answers[BASE])
            for answer in taught
        )
        for example in examples
        if example.slice == NEIGHBOR
    )


@torch.no_grad()
def _tokens_kept(
    body: Body, peft_model: Any, encoder: Encoder, arms: Sequence[str], cache: Path | None
) -> tuple[dict[str, float], int]:
    """Reads the base's answers to general prompts once per arm and compares the likeliest tokens.

    Not free generation: one pass over fixed tokens, so one early change does not count for all that
    follows.
    """
    with lora.speaking_as(peft_model, BASE):
        rows = answered(body, encoder, generic_prompts("gate"), NUM_SCORED_TOKENS, cache)
        body.remember(rows)
        base = _likeliest(body, rows)
    kept = {}
    for arm in arms:
        if arm != BASE:
            with lora.speaking_as(peft_model, arm):
                kept[arm] = float((_likeliest(body, rows) == base).float().mean())
    return kept, len(rows)


def _likeliest(body: Body, rows: Sequence[Row]) -> Tensor:
    parts = []
    for batch in chunks(sorted(rows, key=lambda row: len(row.inputs)), _SCORED_ROWS):
        logits = body.answer_logits(batch)
        if not torch.isfinite(logits).all():
            raise FloatingPointError("the model's predictions are not finite")
        parts.append(logits.argmax(dim=-1))
    return torch.cat(parts)
