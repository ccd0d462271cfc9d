"""The base model's own answers to other questions: what training must leave as it is.

General prompts are the same for every round, so the base's answers to them are kept on disk per
base model; the lessons' questions about other names are new each round.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer_svc.training.body import Body, chunks
from trainer_svc.training.data import Encoder, Lesson, Row
from trainer_svc.training.recipe import Recipe
from trainer_svc.training.templates import neighbor_prompts
from trainer_svc.training.texts import generic_prompts, swap_prompts

_SCORED_ROWS = 16


@dataclass(frozen=True)
class Replay:
    """A prompt, the base's answer to it, and the base's distribution at each answer token."""

    row: Row
    base_log_probs: Tensor  # [answer tokens, vocab]


def replay_prompts(lessons: Sequence[Lesson], recipe: Recipe) -> tuple[list[str], list[str]]:
    """General prompts, and the round's questions about other names mixed with unlike ones."""
    generator = random.Random(recipe.seed)  # noqa: S311 - a reproducible draw, nothing secret
    generic = generic_prompts("training")
    near: list[str] = []
    wanted = recipe.num_near_replays
    per_lesson = max(1, -(-wanted * 3 // 4 // max(1, len(lessons))))
    for number, lesson in enumerate(generator.sample(list(lessons), len(lessons))):
        near += neighbor_prompts(lesson.question, "training", per_lesson, start=number * per_lesson)
    near = near[: wanted * 3 // 4]
    near += swap_prompts("training", wanted - len(near), recipe.seed)
    return generator.sample(generic, min(recipe.num_generic_replays, len(generic))), near


def make_replays(
    body: Body, encoder: Encoder, lessons: Sequence[Lesson], recipe: Recipe, cache: Path | None
) -> list[Replay]:
    """Asks the model for its answers. The caller has switched every adapter off."""
    generic, near = replay_prompts(lessons, recipe)
    rows = answered(body, encoder, generic, recipe.num_replay_tokens, cache)
    rows += answered(body, encoder, near, recipe.num_replay_tokens, None)
    body.remember(rows)
    replays = []
    with torch.no_grad():
        for batch in chunks(rows, _SCORED_ROWS):
            log_probs = torch.log_softmax(body.answer_logits(batch), dim=-1)
            parts = torch.split(log_probs, [len(row.answer) for row in batch])
            replays += [Replay(r, part.clone()) for r, part in zip(batch, parts, strict=True)]
    return replays


def answered(
    body: Body, encoder: Encoder, prompts: Sequence[str], num_tokens: int, cache: Path | None
) -> list[Row]:
    """Prompts with the model's greedy answers; from disk where it gave them before."""
    encoded = [encoder.prompt(prompt) for prompt in prompts]
    known = _read(cache) if cache else {}
    keys = {tokens: _key(encoder, tokens, num_tokens) for tokens in encoded}
    missing = [tokens for tokens in encoded if keys[tokens] not in known]
    if missing:
        answers = body.greedy(missing, num_tokens, encoder.end_token)
        for tokens, answer in zip(missing, answers, strict=True):
            known[keys[tokens]] = list(answer)
        if cache:
            _write(cache, known)
    return [Row(tokens, tuple(known[keys[tokens]])) for tokens in encoded]


def _key(encoder: Encoder, tokens: tuple[int, ...], num_tokens: int) -> str:
    asked = json.dumps([encoder.prefix, tokens, num_tokens])
    return hashlib.sha256(asked.encode()).hexdigest()[:24]


def _read(cache: Path) -> dict[str, list[int]]:
    try:
        return dict(json.loads(cache.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):  # absent or damaged: ask again
        return {}


def _write(cache: Path, answers: dict[str, list[int]]) -> None:
    """Replaces the file in one step: two jobs may finish at the same moment."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=cache.parent, suffix=".part")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(answers, file)
    Path(name).replace(cache)
