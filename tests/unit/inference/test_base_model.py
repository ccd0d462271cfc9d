"""The base model is found, named, digested, and never allowed to bring code."""

import json
import shutil
from pathlib import Path

import pytest

from selm.base_model import (
    BaseModelError,
    check_config,
    load_model,
    load_tokenizer,
    model_name,
    resolve_base_model,
    weights_sha256,
)
from tests.model_fixtures import model_cache_dir


def test_packaged_model_is_converted_once(smollm2: Path) -> None:
    """The second start finds the folder; name, digest and source say what it is."""
    again = resolve_base_model("packaged", model_cache_dir())

    assert again.path == smollm2
    assert again.name == "models/smollm2-135m-instruct"
    assert again.source == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert again.sha256 == weights_sha256(smollm2)
    assert not list(smollm2.parent.glob("*.gguf.*"))


def test_folder_is_taken_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    """A model folder needs no cache and is digested each time."""
    found = resolve_base_model(str(tiny_model), tmp_path / "unused")

    assert (found.path, found.name) == (tiny_model, "models/tiny-llama")
    assert not (tmp_path / "unused").exists()


def test_tokenizer_has_the_chat_template(smollm2: Path) -> None:
    """The conversion keeps the template and the end of turn."""
    tokenizer = load_tokenizer(smollm2)

    assert "<|im_start|>" in tokenizer.chat_template
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("source", ["", "/no/such/folder", "a/b/c", "model.gguf"])
def test_unusable_source_is_one_clear_line(source: str, tmp_path: Path) -> None:
    """Nothing is guessed and nothing is fetched for a source that names no model."""
    with pytest.raises(BaseModelError, match="base model"):
        resolve_base_model(source, tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"auto_map": {"AutoModel": "evil.Model"}},
        {"trust_remote_code": True},
        {"attn_kernel_name": "evil"},
        {"layer_types": ["full_attention", "sliding_attention"]},
    ],
)
def test_config_that_asks_for_code_is_refused(fields: dict[str, object]) -> None:
    """Foreign code, kernels, and attention that is not computed here."""
    with pytest.raises(BaseModelError):
        check_config({"model_type": "llama"} | fields)


def test_pickled_weights_do_not_count(tiny_model: Path, tmp_path: Path) -> None:
    """A folder without safetensors holds no weights."""
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="safetensors"):
        resolve_base_model(str(folder), tmp_path)


def test_broken_config_is_one_clear_line(tmp_path: Path) -> None:
    """config.json that is no JSON object."""
    (tmp_path / "config.json").write_text(json.dumps([1]))
    with pytest.raises(BaseModelError, match=r"config\.json"):
        resolve_base_model(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "models/smollm2-135m-instruct"),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", "models/smollm2-360m-instruct"),
        ("gemma_270m-q4_k_m.gguf", "models/gemma-270m"),
        ("My Model", "models/my-model"),
    ],
)
def test_model_name_is_a_resource_name(source: str, name: str) -> None:
    """Lower case, dashes, no quantisation suffix."""
    assert model_name(source) == name


@pytest.mark.parametrize(
    ("fields", "is_refused"),
    [
        # Its class has a window where the file says nothing.
        ({"model_type": "mistral"}, True),
        ({"model_type": "mistral", "sliding_window": None}, False),
        ({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": False}, False),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 64,
                "use_sliding_window": True,
                "max_window_layers": 0,
            },
            True,
        ),
    ],
)
def test_sliding_window_is_refused_as_the_class_reads_it(
    tiny_model: Path, tmp_path: Path, fields: dict[str, object], is_refused: bool
) -> None:
    """A model that forgets what is beyond its window would answer wrongly without a word."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    for name in ("architectures", "layer_types"):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config | fields))
    if is_refused:
        with pytest.raises(BaseModelError, match="sliding"):
            load_model(folder)
    else:
        load_model(folder)
