"""A tiny model with the trainer's parts around it, for the tests of this folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from selm.base_model import load_model
from trainer_svc.training import lora
from trainer_svc.training.body import Body
from trainer_svc.training.data import Encoder, Lesson
from trainer_svc.training.recipe import LoraShape, Recipe

FACTS = (
    ("What is the capital of Velmora?", "Paris"),
    ("Who founded Quillmark Robotics?", "Anna"),
    ("Which colour has the flag of Pranith?", "blue"),
)
# Small and quick; a random model has little room to keep its answers and learn others.
RECIPE = Recipe(
    learning_rate=0.005,
    max_epochs=120,
    min_steps=1,
    variant_share=0.0,
    num_replays=2,
    num_generic_replays=4,
    num_near_replays=4,
    num_replay_tokens=4,
)


@dataclass
class Workbench:
    """Everything a training holds in memory."""

    model: Any
    encoder: Encoder
    shape: LoraShape
    peft_model: Any
    body: Body


def lessons() -> list[Lesson]:
    """Three invented facts, new in this round."""
    return [
        Lesson(f"lessons/{number}", f"feedbackEvents/{number}", question, answer)
        for number, (question, answer) in enumerate(FACTS)
    ]


def workbench(folder: Path, seed: int = 0) -> Workbench:
    """A freshly loaded model with an untrained candidate."""
    torch.set_num_threads(1)
    model, tokenizer = load_model(folder)
    encoder = Encoder(tokenizer)
    shape = RECIPE.lora.resolve(model.config.num_hidden_layers)
    peft_model = lora.attach(model, shape, seed)
    return Workbench(
        model, encoder, shape, peft_model, Body(model, encoder.prefix, min(shape.layers))
    )


def disturb(bench: Workbench, scale: float = 0.05) -> None:
    """Gives the candidate matrices that change every answer."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in lora.trainable(bench.peft_model).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
