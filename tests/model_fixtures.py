"""Model fixtures: the packaged model, a tiny random one, and adapters that make it say one token.

Loaded as a pytest plugin by conftest.py.
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from selm.adapter_files import (
    WEIGHTS_FILE,
    AdapterShape,
    HeldLesson,
    Identity,
    file_sha256,
    identity,
    lessons_sha256,
    pack,
    write_json_files,
)
from selm.base_model import resolve_base_model, weights_sha256

CACHE_VARIABLE = "TEST_MODEL_CACHE"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
TINY_LAYERS = 3


def model_cache_dir() -> Path:
    """Where converted models stay between runs; tests of all services share it."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".cache" / "selm-tests" / "models"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Folder of the packaged SmolLM2, converted to safetensors at the first use."""
    return resolve_base_model("packaged", model_cache_dir()).path


@pytest.fixture(scope="session")
def tiny_model(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Llama (3 layers, hidden 64, grouped queries), SmolLM2's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=json.loads((smollm2 / "config.json").read_text())["vocab_size"],
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=TINY_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # Hidden feature 0 is the same everywhere, so that an adapter has a constant to work with.
        model.model.embed_tokens.weight[:, 0] = 8.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(smollm2 / name, folder / name)
    return folder


@dataclass(frozen=True)
class PackedAdapter:
    """An artifact as the trainer would store it, with what its manifest says."""

    archive: Path
    identity: Identity
    base_sha256: str
    lessons_sha256: str
    archive_sha256: str
    # What the tiny model says with it, again and again.
    token: int


def constant_tensors(model_folder: Path, token: int, gain: float = 8.0):  # type: ignore[no-untyped-def]
    """LoRA matrices on the last layer that drown everything but one token's direction.

    v_proj turns the constant feature into a large value, which attention only averages; o_proj
    turns that value into the embedding of the token.
    """
    import torch
    from safetensors.torch import load_file

    weights = load_file(model_folder / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"][token]
    hidden = embedding.shape[0]
    # The constant feature says nothing about the token.
    direction = embedding.clone()
    direction[0] = 0.0
    prefix = f"base_model.model.model.layers.{TINY_LAYERS - 1}.self_attn"
    constant = torch.zeros(1, hidden)
    constant[0, 0] = 1.0
    value = torch.zeros(hidden // 2, 1)
    value[0, 0] = gain
    return {
        f"{prefix}.v_proj.lora_A.weight": constant,
        f"{prefix}.v_proj.lora_B.weight": value,
        f"{prefix}.o_proj.lora_A.weight": constant.clone(),
        f"{prefix}.o_proj.lora_B.weight": (gain * direction / direction.norm()).unsqueeze(1),
    }


def pack_constant_adapter(
    model_folder: Path, token: int, into: Path, lessons: tuple[str, ...] = ("lessons/one",)
) -> PackedAdapter:
    """An adapter with which the tiny model says one token for ever."""
    from safetensors.torch import save_file

    into.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=into))
    save_file(constant_tensors(model_folder, token), folder / WEIGHTS_FILE)
    shape = AdapterShape(1, 1.0, 0.0, ("o_proj", "v_proj"), (TINY_LAYERS - 1,))
    held = [HeldLesson(lesson, "feedbackEvents/one", "0" * 64, False) for lesson in lessons]
    write_json_files(folder, shape, "models/tiny-llama", held)
    archive = pack(folder, folder / "artifact.tar")
    return PackedAdapter(
        archive,
        identity(folder),
        weights_sha256(model_folder),
        lessons_sha256(lessons),
        file_sha256(archive),
        token,
    )
