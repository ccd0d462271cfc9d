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
    rows = _answered(body, encoder, generic, recipe.num_replay_tokens, cache)
    rows += _answered(body, encoder, near, recipe.num_replay_tokens, None)
    body.remember(rows)
    replays = []
    with torch.no_grad():
        for batch in chunks(rows, _SCORED_ROWS):
            log_probs = torch.log_softmax(body.answer_logits(batch), dim=-1)
            parts = torch.split(log_probs, [len(row.answer) for row in batch])
            replays += [Replay(r, part.clone()) for r, part in zip(batch, parts, strict=True)]
    return replays


def base_rows(
    body: Body, encoder: Encoder, prompts: Sequence[str], num_tokens: int, cache: Path | None
) -> list[Row]:
    """Prompts with the base's own answers, from disk where it gave them before."""
    return _answered(body, encoder, prompts, num_tokens, cache)


def _answered(
    body: Body, encoder: Encoder, prompts: Sequence[str], num_tokens: int, cache: Path | None
) -> list[Row]:
    encoded = [encoder.prompt(prompt) for prompt in prompts]
    known = _read(cache, num_tokens) if cache else {}
    missing = [tokens for tokens in encoded if _key(encoder, tokens) not in known]
    if missing:
        answers = body.greedy(missing, num_tokens, encoder.end_token)
        for tokens, answer in zip(missing, answers, strict=True):
            known[_key(encoder, tokens)] = list(answer)
        if cache:
            _write(cache, num_tokens, known)
    return [Row(tokens, tuple(known[_key(encoder, tokens)])) for tokens in encoded]


def _key(encoder: Encoder, tokens: tuple[int, ...]) -> str:
    return hashlib.sha256(json.dumps([encoder.prefix, tokens]).encode()).hexdigest()[:24]


def _read(cache: Path, num_tokens: int) -> dict[str, list[int]]:
    try:
        document = json.loads(cache.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # absent or half written by another version: ask again
        return {}
    return dict(document["answers"]) if document.get("num_tokens") == num_tokens else {}


def _write(cache: Path, num_tokens: int, answers: dict[str, list[int]]) -> None:
    """Replaces the file in one step: two jobs may finish at the same moment."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=cache.parent, suffix=".part")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"num_tokens": num_tokens, "answers": answers}, file)
    Path(name).replace(cache)
