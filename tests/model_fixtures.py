"""Model fixtures: the packaged model, converted once per user, and a tiny random one.

Loaded as a pytest plugin by conftest.py.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from selm.base_model import resolve_base_model, weights_sha256

CACHE_VARIABLE = "SELM_TEST_MODEL_CACHE"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


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
    vocabulary_size = json.loads((smollm2 / "config.json").read_text())["vocab_size"]
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(smollm2 / name, folder / name)
    assert weights_sha256(folder)
    return folder
