"""Attaching, switching, saving and loading adapters."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from selm.adapter_files import WEIGHTS_FILE, AdapterFilesError, identity, read_config
from selm.base_model import load_model
from tests.unit.trainer.tiny_lessons import Workbench, disturb, workbench
from trainer_svc.training import lora
from trainer_svc.training.gates import BASE, BASELINE, CANDIDATE
from trainer_svc.training.recipe import LoraShape


def answers(bench: Workbench) -> tuple[int, ...]:
    """What the model says right now."""
    prompt = bench.encoder.prompt("Who is it?")
    return bench.body.greedy([prompt], 6, bench.encoder.end_token)[0]


def test_a_fresh_candidate_changes_nothing(tiny_learner: Path) -> None:
    """Training starts exactly at the base model."""
    bench = workbench(tiny_learner)
    with lora.speaking_as(bench.peft_model, BASE):
        before = answers(bench)

    assert answers(bench) == before


def test_only_the_upper_half_is_trained(tiny_learner: Path) -> None:
    """Seven linears of each upper layer, two matrices each, and nothing else."""
    bench = workbench(tiny_learner)
    names = [name for name, p in bench.peft_model.named_parameters() if p.requires_grad]

    assert set(names) == set(lora.trainable(bench.peft_model))
    assert len(names) == 2 * 7 * len(bench.shape.layers)
    assert not any(".layers.0." in name for name in names)


def test_saving_and_loading_gives_the_same_answers_and_bytes(
    tiny_learner: Path, tmp_path: Path
) -> None:
    """Loaded as another arm the adapter answers as the candidate did."""
    bench = workbench(tiny_learner)
    disturb(bench)
    said = answers(bench)
    lora.save(bench.peft_model, bench.shape, "models/tiny", [], tmp_path / "one")
    lora.save(bench.peft_model, bench.shape, "models/tiny", [], tmp_path / "two")
    other = workbench(tiny_learner, seed=9)
    lora.add(other.peft_model, lora.saved_shape(tmp_path / "one"), BASELINE)
    lora.load(other.peft_model, tmp_path / "one", BASELINE)
    with lora.speaking_as(other.peft_model, BASELINE):
        assert answers(other) == said
    with lora.speaking_as(other.peft_model, BASE):
        base = answers(other)

    assert base != said
    assert answers(other) == base  # its own candidate is untrained
    assert identity(tmp_path / "one") == identity(tmp_path / "two")
    assert (tmp_path / "one" / WEIGHTS_FILE).read_bytes() == (
        tmp_path / "two" / WEIGHTS_FILE
    ).read_bytes()


def test_plain_peft_reads_what_was_saved(tiny_learner: Path, tmp_path: Path) -> None:
    """The format is peft's own, so that any other tool can load a revision."""
    bench = workbench(tiny_learner)
    disturb(bench)
    lora.save(bench.peft_model, bench.shape, "models/tiny", [], tmp_path)
    tokens = torch.tensor([[*bench.encoder.prefix, *bench.encoder.prompt("Who is it?")]])
    model, _ = load_model(tiny_learner)
    theirs = PeftModel.from_pretrained(model, tmp_path)
    with torch.no_grad():
        assert torch.equal(theirs(tokens).logits, bench.peft_model(tokens).logits)

    assert read_config(tmp_path)[1] == "models/tiny"
    assert all(name.startswith("base_model.model.model.layers.") for name in _names(tmp_path))


def test_weights_of_another_shape_or_not_finite_are_refused(
    tiny_learner: Path, tmp_path: Path
) -> None:
    """Neither half loaded nor silently resized."""
    bench = workbench(tiny_learner)
    disturb(bench)
    lora.save(bench.peft_model, bench.shape, "models/tiny", [], tmp_path)
    lora.add(bench.peft_model, LoraShape(rank=2).resolve(3), BASELINE)
    with pytest.raises(AdapterFilesError, match="fit"):
        lora.load(bench.peft_model, tmp_path, BASELINE)
    disturb(bench, scale=float("inf"))
    lora.save(bench.peft_model, bench.shape, "models/tiny", [], tmp_path)

    with pytest.raises(AdapterFilesError, match="finite"):
        lora.load(bench.peft_model, tmp_path, CANDIDATE)


def _names(folder: Path) -> list[str]:
    return list(load_file(folder / WEIGHTS_FILE))
