"""Brings the engine up: finds the base model, reads it, warms it. Blocks; run it off the loop."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import structlog
import torch

from inference_svc.core import ModelFacts
from inference_svc.engine.engine import AsyncEngine
from inference_svc.engine.model_runner import ModelRunner
from inference_svc.engine.room import EngineLimits
from inference_svc.engine.tokenizer import ChatTokenizer, end_tokens
from selm.base_model import BaseModelError, load_model, resolve_base_model

log = structlog.get_logger()


@dataclass(frozen=True)
class EngineSource:
    """Which model to serve and how."""

    base_model: str
    models_dir: Path
    dtype: str = "float32"
    device: str = "cpu"
    # 0 takes what the model allows.
    context_length: int = 0
    adapter_slots: int = 16
    max_lora_rank: int = 64


def load_engine(source: EngineSource, limits: EngineLimits) -> AsyncEngine:
    """An engine that is not started yet; BaseModelError if the source is no usable model."""
    start = time.monotonic()
    if limits.num_threads:
        torch.set_num_threads(limits.num_threads)
    base = resolve_base_model(source.base_model, source.models_dir)
    model, tokenizer = load_model(base.path, source.dtype, source.device)
    if not tokenizer.is_fast or not tokenizer.chat_template:
        raise BaseModelError(f"{base.source} lacks tokenizer.json or a chat template")
    architecture, ends = type(model).__name__, end_tokens(model, tokenizer)
    runner = ModelRunner(model)
    longest = int(model.config.max_position_embeddings)
    facts = ModelFacts(
        name=base.name,
        source=base.source,
        sha256=base.sha256,
        architecture=architecture,
        dtype=source.dtype,
        device=re.sub(r":\d+$", "", source.device),
        context_length=min(source.context_length or longest, longest),
        vocabulary_size=runner.vocabulary_size,
        layer_count=runner.cache_shape.num_layers,
        target_modules=runner.lora.target_modules,
        max_lora_rank=source.max_lora_rank,
        adapter_slots=source.adapter_slots,
    )
    # The first pass allocates and picks kernels; no caller should wait for that.
    runner.probe([0, 1])
    seconds = round(time.monotonic() - start, 2)
    log.info("base_model_loaded", model=base.name, sha256=base.sha256, seconds=seconds)
    return AsyncEngine(runner, ChatTokenizer(tokenizer, ends), facts, limits)
