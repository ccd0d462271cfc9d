"""Fixtures of the trainer's unit tests."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_learner(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, able to end its turn: its end token is padding too, so it starts at zero."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("learner") / "tiny-llama"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    generator = torch.Generator().manual_seed(5)
    embedding[2] = torch.randn(embedding.shape[1], generator=generator) * 0.2
    embedding[2, 0] = 1.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
