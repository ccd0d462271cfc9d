"""The training loop, top to bottom: steps over corrections and replays until every answer is right.

Gets a model with the candidate attached and rows ready; knows no files and no job.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selm.errors import SelmError
from trainer_svc.training.body import Body
from trainer_svc.training.data import Lessons, Row
from trainer_svc.training.objectives import completion_loss, divergence_from_base
from trainer_svc.training.recipe import Recipe
from trainer_svc.training.replays import Replay

Parameters = dict[str, torch.nn.Parameter]


@dataclass(frozen=True)
class Step:
    """What one optimiser step did."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    kl: float
    learning_rate: float
    token_accuracy: float
    tokens_per_second: float


@dataclass(frozen=True)
class Outcome:
    """How the training ended."""

    num_steps: int
    num_epochs: int
    loss: float  # mean of the last epoch
    token_accuracy: float  # share of answer tokens of the last epoch that were the likeliest
    stopped_early: bool


def train(
    body: Body,
    parameters: Parameters,
    lessons: Lessons,
    replays: Sequence[Replay],
    recipe: Recipe,
    report: Callable[[Step], None],
) -> Outcome:
    """Trains in place. The same inputs, seed, device and thread count give the same bytes."""
    generator = random.Random(recipe.seed)  # noqa: S311 - a reproducible draw, nothing secret
    steps_per_epoch = lessons.steps_per_epoch(recipe.batch_size)
    num_epochs = recipe.num_epochs(steps_per_epoch)
    total_steps = num_epochs * steps_per_epoch
    optimiser = torch.optim.AdamW(
        list(parameters.values()), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=0.0
    )
    body.remember([row for rows in lessons.rows for row in rows])
    drawn_replays = _endless(replays, generator)
    step = 0
    for epoch in range(1, num_epochs + 1):
        losses: list[float] = []
        num_right = num_tokens = 0
        for rows in lessons.epoch(recipe.batch_size, recipe.variant_share, generator):
            start_time = time.perf_counter()
            rate = learning_rate(step, total_steps, recipe)
            for group in optimiser.param_groups:
                group["lr"] = rate
            shown = [next(drawn_replays) for _ in range(recipe.num_replays)] if replays else []
            loss, kl, right = _losses(body, rows, shown)
            total = loss + recipe.kl_weight * kl
            _require_finite(float(total.detach()))
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(total)
            if step == 0:
                _require_gradients(parameters)
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), recipe.max_gradient_norm)
            optimiser.step()
            step += 1
            losses.append(float(loss.detach()))
            num_right += right
            num_answer_tokens = sum(len(row.answer) for row in rows)
            num_tokens += num_answer_tokens
            useful = sum(len(row.inputs) for row in [*rows, *(replay.row for replay in shown)])
            report(
                Step(
                    step=step,
                    total_steps=total_steps,
                    epoch=step / steps_per_epoch,
                    loss=losses[-1],
                    kl=float(kl.detach()),
                    learning_rate=rate,
                    token_accuracy=right / num_answer_tokens,
                    tokens_per_second=useful / (time.perf_counter() - start_time),
                )
            )
        mean_loss = sum(losses) / len(losses)
        is_learned = num_right == num_tokens and mean_loss < recipe.stop_loss
        if is_learned and epoch >= recipe.stop_after_epoch:
            break
    _require_finite(*(float(parameter.detach().sum()) for parameter in parameters.values()))
    return Outcome(step, epoch, mean_loss, num_right / num_tokens, step < total_steps)


def learning_rate(step: int, total_steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to the final share."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, total_steps - recipe.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return recipe.learning_rate * (recipe.final_rate_share + (1 - recipe.final_rate_share) * cosine)


def _losses(body: Body, rows: list[Row], shown: list[Replay]) -> tuple[Tensor, Tensor, int]:
    """Corrections and replays in one pass; their answer tokens come out one after the other."""
    logits = body.answer_logits([*rows, *(replay.row for replay in shown)])
    targets = torch.tensor([t for row in rows for t in row.answer], device=logits.device)
    loss, num_right = completion_loss(logits[: len(targets)], targets)
    if not shown:
        return loss, torch.zeros((), device=logits.device), num_right
    base_log_probs = torch.cat([replay.base_log_probs for replay in shown])
    return loss, divergence_from_base(logits[len(targets) :], base_log_probs), num_right


def _endless(replays: Sequence[Replay], generator: random.Random) -> Iterator[Replay]:
    """Every replay once in random order, then all over again."""
    while replays:
        yield from generator.sample(list(replays), len(replays))


def _require_finite(*values: float) -> None:
    if not all(math.isfinite(value) for value in values):
        raise SelmError("TRAINING_NOT_FINITE", "the loss or the weights became infinite or NaN")


def _require_gradients(parameters: Parameters) -> None:
    """A model that cannot learn (packed weights, a detached graph) shows no error otherwise."""
    for name, parameter in parameters.items():
        # B starts at zero, so A's gradient is rightly zero in the very first step.
        must_move = "lora_B" in name
        if parameter.grad is None or (must_move and not bool(parameter.grad.any())):
            raise SelmError("INTERNAL", f"no gradient reaches {name}")
