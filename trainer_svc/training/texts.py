"""The project's own prompts for replay and for the gate, read from trainer_svc/texts.

Training and gate lists share no line, so that the gate asks what training never showed. Knows no
tokenizer and no lesson.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Use = Literal["training", "gate"]


@dataclass(frozen=True)
class Entity:
    """A name that can stand in a question."""

    kind: str  # place, work, person or company
    name: str


@cache
def generic_prompts(use: Use) -> tuple[str, ...]:
    """General questions and small instructions."""
    return _lines(f"generic_{use}.txt")


@cache
def swap_templates(use: Use) -> tuple[str, ...]:
    """Questions with one slot such as {place}."""
    return _lines(f"swap_{use}.txt")


@cache
def entities(use: Use) -> tuple[Entity, ...]:
    """Invented and real names to put into slots."""
    pairs = (line.split(": ", 1) for line in _lines(f"entities_{use}.txt"))
    return tuple(Entity(kind, name) for kind, name in pairs)


def swap_prompts(use: Use, count: int, seed: int) -> list[str]:
    """Up to `count` questions about names that no lesson is about; the same for the same seed."""
    generator = random.Random(seed)  # noqa: S311 - a reproducible draw, nothing secret
    every = [
        template.replace("{" + entity.kind + "}", entity.name)
        for template in swap_templates(use)
        for entity in entities(use)
        if "{" + entity.kind + "}" in template
    ]
    return generator.sample(every, min(count, len(every)))


def _lines(name: str) -> tuple[str, ...]:
    text = (files("trainer_svc") / "texts" / name).read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line.strip())
