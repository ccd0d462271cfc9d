"""Greedy output of the engine is that of transformers `generate`, token for token, in fp32."""

import asyncio
import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference_svc.core import Message, Sampling
from inference_svc.engine.engine import AsyncEngine
from inference_svc.engine.room import EngineLimits

PROMPTS = json.loads((Path(__file__).parents[2] / "data" / "prompts.json").read_text())
# The whole list takes minutes; the usual run takes a part of it, and all lengths.
IS_WHOLE = bool(os.environ.get("TEST_WHOLE"))
CASES = (
    [(8, PROMPTS, 48), (1, PROMPTS, 48)]
    if IS_WHOLE
    else [(8, PROMPTS[:8], 12), (1, PROMPTS[8:11], 8)]
)
# Two tokens closer than this are a tie that rounding may decide either way.
TIE = 1e-4


class Reference:
    """transformers itself, with as many prompts at a time as the engine."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def tokens(self, prompt: str) -> list[int]:
        chat = [{"role": "user", "content": prompt}]
        return list(
            self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        )

    def generate(self, prompts: list[str], num_tokens: int) -> list[list[int]]:
        """The first tokens of each greedy answer, up to and with the end of turn."""
        batch = self.tokenizer.pad(
            {"input_ids": [self.tokens(prompt) for prompt in prompts]}, return_tensors="pt"
        )
        with torch.inference_mode():
            out = self.model.generate(**batch, max_new_tokens=num_tokens, do_sample=False)
        answers = out[:, batch["input_ids"].shape[1] :].tolist()
        return [self._until_end(answer) for answer in answers]

    def _until_end(self, answer: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        return answer[: answer.index(end) + 1] if end in answer else answer

    def is_tie(self, prompt: str, before: list[int], one: int, other: int) -> bool:
        with torch.inference_mode():
            logits = self.model(torch.tensor([self.tokens(prompt) + before])).logits[0, -1]
        return abs(float(logits[one] - logits[other])) < TIE


@pytest.fixture(scope="module")
def reference(smollm2: Path) -> Reference:
    torch.set_num_threads(1)
    return Reference(smollm2)


async def run(engine: AsyncEngine, prompt: str, num_tokens: int) -> tuple[tuple[int, ...], str]:
    running = engine.submit(
        engine.prompt([Message("user", prompt)]), Sampling(max_output_tokens=num_tokens), 0
    )
    text = "".join([delta.text async for delta in running])
    return running.ending.tokens, text


@pytest.mark.parametrize(("batch", "prompts", "num_tokens"), CASES)
async def test_greedy_equals_generate(
    smollm2: Path,
    reference: Reference,
    start_engine,
    batch: int,
    prompts: list[str],
    num_tokens: int,
) -> None:
    """Every prompt alone and eight at a time gives what `generate` gives."""
    limits = EngineLimits(max_running=batch, num_threads=1)
    async with start_engine(limits, folder=smollm2) as engine:
        results = await asyncio.gather(*(run(engine, p, num_tokens) for p in prompts))

    answers = [
        answer
        for start in range(0, len(prompts), batch)
        for answer in reference.generate(prompts[start : start + batch], num_tokens)
    ]
    for prompt, (tokens, text), expected in zip(prompts, results, answers, strict=True):
        differing = [
            i for i, pair in enumerate(zip(tokens, expected, strict=False)) if pair[0] != pair[1]
        ]
        if differing:
            first = differing[0]
            assert reference.is_tie(prompt, expected[:first], tokens[first], expected[first])
            continue
        assert list(tokens) == expected
        assert text == reference.tokenizer.decode(expected, skip_special_tokens=True)
