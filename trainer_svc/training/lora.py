"""LoRA matrices on the base model: attach, load, switch between arms, save as an adapter folder.

Knows peft and the files of an artifact; knows no lesson's text and no loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from selm.adapter_files import (
    WEIGHTS_FILE,
    AdapterFilesError,
    AdapterShape,
    HeldLesson,
    read_config,
    write_json_files,
)
from trainer_svc.training.gates import BASE, CANDIDATE
from trainer_svc.training.recipe import LoraShape


def attach(model: Any, shape: LoraShape, seed: int, arm: str = CANDIDATE) -> Any:
    """Wraps the model with fresh matrices that change nothing yet; the same for the same seed."""
    torch.manual_seed(seed)
    return get_peft_model(model, _peft_config(shape), adapter_name=arm)


def add(peft_model: Any, shape: LoraShape, arm: str) -> None:
    """Adds another adapter beside the candidate; it is never trained."""
    peft_model.add_adapter(arm, _peft_config(shape))
    peft_model.set_adapter(CANDIDATE)


def load(peft_model: Any, folder: Path, arm: str) -> None:
    """Fills an attached adapter with saved weights; refuses weights of another shape."""
    weights = load_file(folder / WEIGHTS_FILE)
    expected = get_peft_model_state_dict(peft_model, adapter_name=arm)
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in expected.items()}:
        raise AdapterFilesError("the adapter's weights do not fit the base model")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise AdapterFilesError("the adapter's weights are not finite")
    set_peft_model_state_dict(peft_model, weights, adapter_name=arm)


def saved_shape(folder: Path) -> LoraShape:
    """The shape of a saved adapter."""
    shape, _ = read_config(folder)
    return LoraShape(shape.rank, shape.alpha, shape.dropout, shape.target_modules, shape.layers)


def save(
    peft_model: Any, shape: LoraShape, base_model: str, lessons: Iterable[HeldLesson], folder: Path
) -> None:
    """Writes the candidate as an adapter folder, fp32, with the same bytes for the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = get_peft_model_state_dict(peft_model, adapter_name=CANDIDATE)
    plain = {name: weights[name].detach().float().cpu().contiguous() for name in sorted(weights)}
    save_file(plain, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    described = AdapterShape(
        shape.rank, shape.alpha, shape.dropout, shape.target_modules, shape.layers
    )
    write_json_files(folder, described, base_model, lessons)


def trainable(peft_model: Any) -> dict[str, torch.nn.Parameter]:
    """The candidate's matrices by name."""
    named = peft_model.named_parameters()
    return {name: parameter for name, parameter in named if f".{CANDIDATE}." in name}


@contextmanager
def speaking_as(peft_model: Any, arm: str) -> Iterator[None]:
    """Makes the model answer as one arm; the candidate is back in place afterwards."""
    if arm == BASE:
        with peft_model.disable_adapter():
            yield
        return
    peft_model.set_adapter(arm)
    try:
        yield
    finally:
        peft_model.set_adapter(CANDIDATE)


def _peft_config(shape: LoraShape) -> Any:
    return LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        target_modules=list(shape.target_modules),
        layers_to_transform=list(shape.layers),
        bias="none",
        task_type="CAUSAL_LM",
    )
