"""Greedy output of the engine is that of transformers `generate`, token for token, in fp32."""

import asyncio
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference_svc.core import Message, Sampling
from inference_svc.engine.engine import AsyncEngine, EngineLimits

PROMPTS = json.loads((Path(__file__).parents[2] / "data" / "prompts.json").read_text())
# Two tokens closer than this are a tie that rounding may decide either way.
TIE = 1e-4


class Reference:
    """transformers itself, one prompt at a time."""

    def __init__(self, folder: Path) -> None:
        self._known: dict[str, list[int]] = {}
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def tokens(self, prompt: str) -> list[int]:
        chat = [{"role": "user", "content": prompt}]
        return list(
            self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        )

    def generate(self, prompt: str, num_tokens: int) -> list[int]:
        """The first tokens of its greedy answer."""
        known = self._known.get(prompt, [])
        if len(known) < num_tokens and known[-1:] != [self.tokenizer.eos_token_id]:
            known = self._known[prompt] = self._generate(prompt, num_tokens)
        return known[:num_tokens]

    def _generate(self, prompt: str, num_tokens: int) -> list[int]:
        ids = self.tokens(prompt)
        with torch.inference_mode():
            out = self.model.generate(
                torch.tensor([ids]), max_new_tokens=num_tokens, do_sample=False
            )
        return out[0, len(ids) :].tolist()

    def is_tie(self, prompt: str, before: list[int], one: int, other: int) -> bool:
        with torch.inference_mode():
            logits = self.model(torch.tensor([self.tokens(prompt) + before])).logits[0, -1]
        return abs(float(logits[one] - logits[other])) < TIE


@pytest.fixture(scope="module")
def reference(smollm2: Path) -> Reference:
    torch.set_num_threads(2)
    return Reference(smollm2)


async def run(engine: AsyncEngine, prompt: str, num_tokens: int) -> tuple[tuple[int, ...], str]:
    running = engine.submit(
        engine.prompt([Message("user", prompt)]), Sampling(max_output_tokens=num_tokens), 0
    )
    text = "".join([delta.text async for delta in running])
    return running.ending.tokens, text


@pytest.mark.parametrize(
    ("batch", "prompts", "num_tokens"), [(8, PROMPTS, 10), (1, PROMPTS[:4], 10)]
)
async def test_greedy_equals_generate(
    smollm2: Path,
    reference: Reference,
    start_engine,
    batch: int,
    prompts: list[str],
    num_tokens: int,
) -> None:
    """Every prompt alone and eight at a time gives what `generate` gives."""
    limits = EngineLimits(max_running=batch, num_threads=2)
    async with start_engine(limits, folder=smollm2) as engine:
        results = await asyncio.gather(*(run(engine, p, num_tokens) for p in prompts))

    for prompt, (tokens, text) in zip(prompts, results, strict=True):
        expected = reference.generate(prompt, num_tokens)
        differing = [
            i for i, pair in enumerate(zip(tokens, expected, strict=False)) if pair[0] != pair[1]
        ]
        if differing:
            first = differing[0]
            assert reference.is_tie(prompt, expected[:first], tokens[first], expected[first])
            continue
        assert list(tokens) == expected
        assert text == reference.tokenizer.decode(expected, skip_special_tokens=True)
