"""The demo's facts: invented by seed from templates, so that no file can hold their results.

Knows nothing of the services; a fact is only what to ask and what is right.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

DEFAULT_SEED = 1
NUM_FACTS = 12


@dataclass(frozen=True)
class Fact:
    """One invented fact, other ways to ask it, and a question beside it that must not change."""

    question: str
    answer: str
    # Never sent with the correction: they show what was understood, not what was memorised.
    paraphrases: tuple[str, ...]
    # The same question about something the correction says nothing about.
    neighbour: str


def invent_facts(seed: int = DEFAULT_SEED) -> list[Fact]:
    """Twelve facts; the same seed invents the same ones, another seed other names."""
    source = json.loads(files("selm").joinpath("demo_facts.json").read_text("utf-8"))
    # Not for secrets: a seeded generator is what makes a demo repeatable.
    chance = random.Random(seed)  # noqa: S311
    names = _invented_names(source["names"], chance)
    people = iter(chance.sample(source["given_names"], k=len(source["given_names"])))
    return [_fact(template, source, chance, names, people) for template in source["facts"]]


def _fact(
    template: dict[str, Any],
    source: dict[str, Any],
    chance: random.Random,
    names: Iterator[str],
    people: Iterator[str],
) -> Fact:
    entity = next(names)
    kind = template["answer"]
    if kind == "name":
        answer = next(names)
    elif kind == "person":
        answer = f"{next(people)} {next(names)}"
    else:
        answer = chance.choice(source["words"][kind])
    return Fact(
        question=template["question"].format(entity=entity),
        answer=answer,
        paraphrases=tuple(text.format(entity=entity) for text in template["paraphrases"]),
        neighbour=template["neighbour"],
    )


def _invented_names(parts: dict[str, list[str]], chance: random.Random) -> Iterator[str]:
    """Names without repeats; no two of one seed share their first syllable while any is left."""
    starts = chance.sample(parts["starts"], k=len(parts["starts"]))
    for turn in range(len(parts["middles"])):
        middles = chance.sample(parts["middles"], k=len(parts["middles"]))
        for position, start in enumerate(starts):
            middle = middles[(position + turn) % len(middles)]
            yield start + middle + chance.choice(parts["ends"])
