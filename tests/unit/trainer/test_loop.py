"""The training loop on a tiny model."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from selm.adapter_files import identity
from selm.errors import SelmError
from tests.unit.trainer.tiny_lessons import RECIPE, Workbench, lessons, workbench
from trainer_svc.training import lora
from trainer_svc.training.data import Lessons
from trainer_svc.training.gates import BASE
from trainer_svc.training.loop import Outcome, Step, learning_rate, train
from trainer_svc.training.recipe import Recipe
from trainer_svc.training.replays import make_replays

# Without replays: nothing but the lessons.
ALONE = replace(RECIPE, num_replays=0)


def train_once(bench: Workbench, recipe: Recipe = RECIPE) -> tuple[Outcome, list[Step]]:
    """One training with replays, and its steps."""
    with lora.speaking_as(bench.peft_model, BASE):
        replays = make_replays(bench.body, bench.encoder, lessons(), recipe, None)
    steps: list[Step] = []
    parameters = lora.trainable(bench.peft_model)
    rows = Lessons(lessons(), bench.encoder)
    return train(bench.body, parameters, rows, replays, recipe, steps.append), steps


def test_the_lessons_are_learned(tiny_learner: Path) -> None:
    """Asked as taught, the trained model says each right answer and ends its turn."""
    bench = workbench(tiny_learner)
    outcome, steps = train_once(bench, ALONE)
    rows = [bench.encoder.row(item.question, item.answer) for item in lessons()]
    said = bench.body.greedy([row.prompt for row in rows], 6, bench.encoder.end_token)

    assert said == [row.answer for row in rows]
    assert steps[-1].loss < steps[0].loss / 4
    assert outcome.num_steps == len(steps) <= ALONE.max_epochs


def test_the_first_step_starts_at_the_base_model(tiny_learner: Path) -> None:
    """The divergence is zero, and the loss is the base's own on the answers."""
    _, steps = train_once(workbench(tiny_learner), replace(RECIPE, max_epochs=1))

    assert steps[0].kl == pytest.approx(0.0, abs=1e-5)
    assert steps[0].loss > 1.0


def test_the_same_seed_gives_the_same_bytes(tiny_learner: Path, tmp_path: Path) -> None:
    """Two trainings are one; another seed is another adapter."""
    digests = []
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        bench = workbench(tiny_learner, seed=seed)
        train_once(bench, replace(RECIPE, max_epochs=2, seed=seed))
        lora.save(bench.peft_model, bench.shape, "models/tiny", [], tmp_path / name)
        digests.append(identity(tmp_path / name).sha256)

    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_it_stops_once_every_answer_token_is_right(tiny_learner: Path) -> None:
    """Not before the epoch that the recipe names."""
    recipe = replace(ALONE, stop_loss=1.0)
    outcome, _ = train_once(workbench(tiny_learner), recipe)

    assert outcome.stopped_early
    assert recipe.stop_after_epoch <= outcome.num_epochs < recipe.max_epochs
    assert outcome.token_accuracy == 1.0


def test_a_loss_that_is_not_finite_fails_with_its_reason(tiny_learner: Path) -> None:
    """Weights that broke are never saved."""
    bench = workbench(tiny_learner)
    with torch.no_grad():
        bench.model.lm_head.weight.fill_(float("nan"))
    rows = Lessons(lessons(), bench.encoder)
    with pytest.raises(SelmError) as caught:
        train(bench.body, lora.trainable(bench.peft_model), rows, [], RECIPE, print)

    assert caught.value.reason == "TRAINING_NOT_FINITE"


def test_a_model_that_cannot_learn_is_noticed_at_the_first_step(tiny_learner: Path) -> None:
    """A parameter that no gradient reaches stops the job, whatever the loss says."""
    bench = workbench(tiny_learner)
    parameters = lora.trainable(bench.peft_model) | {
        "detached.lora_B": torch.nn.Parameter(torch.zeros(2, 2))
    }
    rows = Lessons(lessons(), bench.encoder)

    with pytest.raises(SelmError, match="no gradient"):
        train(bench.body, parameters, rows, [], RECIPE, print)


def test_the_rate_warms_up_and_falls_to_its_final_share() -> None:
    """Three steps up, then a cosine."""
    recipe = Recipe()
    rates = [learning_rate(step, 100, recipe) for step in range(101)]

    assert rates[:3] == pytest.approx([0.004 / 3, 0.008 / 3, 0.004])
    assert rates[3] == pytest.approx(0.004)
    assert all(a >= b for a, b in pairwise(rates[3:]))
    assert rates[100] == pytest.approx(0.0002)
