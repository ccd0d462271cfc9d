"""The base's own answers."""

import json
from pathlib import Path

import torch

from tests.unit.trainer.tiny_lessons import RECIPE, Workbench, lessons, workbench
from trainer_svc.training import lora
from trainer_svc.training.gates import BASE
from trainer_svc.training.recipe import Recipe
from trainer_svc.training.replays import Replay, answered, make_replays, replay_prompts
from trainer_svc.training.texts import generic_prompts


def made(bench: Workbench, cache: Path | None) -> list[Replay]:
    """Replays of the base."""
    with lora.speaking_as(bench.peft_model, BASE):
        return make_replays(bench.body, bench.encoder, lessons(), RECIPE, cache)


def test_prompts_are_general_ones_and_the_rounds_questions_about_other_names() -> None:
    """Both kinds in the numbers of the recipe; none asks about a lesson's own name."""
    generic, near = replay_prompts(lessons(), Recipe())

    assert len(set(generic)) == Recipe().num_generic_replays
    assert len(set(near)) == Recipe().num_near_replays
    assert any(text.startswith("What is the capital of ") for text in near)
    assert not any("Velmora" in text for text in near)


def test_a_replay_is_the_bases_own_likeliest_answer(tiny_learner: Path) -> None:
    """Each answer token is the most probable one of the distribution kept with it."""
    for replay in made(workbench(tiny_learner), None):
        likeliest = replay.base_log_probs.argmax(dim=-1)

        assert tuple(likeliest.tolist()) == replay.row.answer


def test_general_answers_are_kept_on_disk_and_used_again(
    tiny_learner: Path, tmp_path: Path
) -> None:
    """The next job reads them; the rounds' own questions are asked each time and not kept."""
    cache = tmp_path / "base" / "answers.json"
    bench = workbench(tiny_learner)
    first = made(bench, cache)
    stored = json.loads(cache.read_text())
    second = made(workbench(tiny_learner), cache)

    assert len(stored) == RECIPE.num_generic_replays
    assert [replay.row for replay in first] == [replay.row for replay in second]
    assert json.loads(cache.read_text()) == stored
    changed = {key: [7] for key in stored}
    cache.write_text(json.dumps(changed))
    prompts = replay_prompts(lessons(), RECIPE)[0]
    read = answered(bench.body, bench.encoder, prompts, RECIPE.num_replay_tokens, cache)
    assert all(row.answer == (7,) for row in read)


def test_a_damaged_cache_is_asked_anew(tiny_learner: Path, tmp_path: Path) -> None:
    """It is a convenience, never a reason to fail."""
    cache = tmp_path / "answers.json"
    cache.write_text('{"half')
    bench = workbench(tiny_learner)
    rows = answered(bench.body, bench.encoder, generic_prompts("gate")[:2], 3, cache)

    assert len(rows) == 2
    assert torch.tensor([len(row.answer) for row in rows]).min() >= 1
    assert len(json.loads(cache.read_text())) == 2
