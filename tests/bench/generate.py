"""Greedy decoding of the engine beside transformers `generate`, in one process, in turns.

Both run the packaged model in fp32 on the same threads and prompts. Rounds alternate, and the
engine is also measured against itself: that ratio is the noise.
"""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from inference_svc.core import Message, Sampling
from inference_svc.engine.engine import AsyncEngine
from inference_svc.engine.loader import EngineSource, load_engine
from inference_svc.engine.room import EngineLimits
from selm.base_model import load_model, resolve_base_model

NUM_TOKENS = 32
NUM_ROUNDS = 3
BATCHES = (1, 8)
CACHE = Path.home() / ".cache" / "selm-tests" / "models"
PROMPT = "Tell me a long story about the sea, the ships and the people who live there."


async def measure() -> list[dict[str, Any]]:
    """Tokens per second of both, and the ratios, per batch size."""
    folder = resolve_base_model("packaged", CACHE)
    model, tokenizer = load_model(folder.path, "float32", "cpu")
    limits = EngineLimits(num_threads=torch.get_num_threads())
    engine = load_engine(EngineSource("packaged", CACHE), limits)
    engine.start()
    try:
        return [await _compare(engine, model, tokenizer, batch) for batch in BATCHES]
    finally:
        await engine.stop()


async def _compare(engine: AsyncEngine, model: Any, tokenizer: Any, batch: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"engine": [], "generate": [], "engine_again": []}
    for _ in range(NUM_ROUNDS + 1):
        rates["engine"].append(await _engine_rate(engine, batch))
        rates["generate"].append(_generate_rate(model, tokenizer, batch))
        rates["engine_again"].append(await _engine_rate(engine, batch))
    # The first round warms caches and allocators up.
    medians = {name: statistics.median(values[1:]) for name, values in rates.items()}
    return {
        "benchmark": "generate",
        "batch": batch,
        "num_tokens": NUM_TOKENS,
        "num_threads": torch.get_num_threads(),
        "engine_tokens_per_s": round(medians["engine"], 1),
        "transformers_tokens_per_s": round(medians["generate"], 1),
        "ratio": round(medians["engine"] / medians["generate"], 2),
        "null_ratio": round(medians["engine_again"] / medians["engine"], 2),
    }


async def _engine_rate(engine: AsyncEngine, batch: int) -> float:
    prompt = engine.prompt([Message("user", PROMPT)])
    sampling = Sampling(max_output_tokens=NUM_TOKENS, ignore_end=True)

    async def read() -> None:
        async for _ in engine.submit(prompt, sampling, 0):
            pass

    start = time.perf_counter()
    await asyncio.gather(*(read() for _ in range(batch)))
    return batch * NUM_TOKENS / (time.perf_counter() - start)


def _generate_rate(model: Any, tokenizer: Any, batch: int) -> float:
    chat = [{"role": "user", "content": PROMPT}]
    tokens = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    start = time.perf_counter()
    with torch.inference_mode():
        model.generate(
            torch.tensor([tokens] * batch),
            attention_mask=torch.ones(batch, len(tokens), dtype=torch.long),
            max_new_tokens=NUM_TOKENS,
            min_new_tokens=NUM_TOKENS,
            do_sample=False,
        )
    return batch * NUM_TOKENS / (time.perf_counter() - start)
