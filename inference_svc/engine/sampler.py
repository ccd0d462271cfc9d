"""Chooses the next token of each row. Owns each row's random generator; knows no text.

Order of the knobs: penalties, temperature, top_k, top_p, min_p, draw.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from inference_svc.core import Sampling

# torch generators take 64-bit seeds.
SEED_MASK = (1 << 64) - 1


class RowSampler:
    """The choices of one row: its knobs, its seed, what it has seen and said."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self.sampling = sampling
        self._generator: torch.Generator | None = None
        if sampling.temperature > 0:
            self._generator = torch.Generator().manual_seed(sampling.seed & SEED_MASK)
        self._seen: set[int] = set(prompt) if sampling.repetition_penalty != 1.0 else set()
        self._counts: Counter[int] = Counter()

    def choose(self, logits: Tensor, likeliest: int | None = None) -> int:
        """logits: [vocabulary], float32; `likeliest` if their argmax is known. Records the choice.

        Plain greedy rows take it as it is, so that a batch computes one argmax for all its rows.
        """
        if likeliest is not None and self.sampling.is_plain_greedy:
            return likeliest
        token = self._draw(self._penalised(logits))
        self.record(token)
        return token

    def record(self, token: int) -> None:
        if self.sampling.has_penalties:
            self._seen.add(token)
            self._counts[token] += 1

    def _penalised(self, logits: Tensor) -> Tensor:
        sampling = self.sampling
        if not sampling.has_penalties:
            return logits
        logits = logits.clone()
        if sampling.repetition_penalty != 1.0 and self._seen:
            seen = torch.tensor(sorted(self._seen))
            score = logits[seen]
            penalty = sampling.repetition_penalty
            logits[seen] = torch.where(score < 0, score * penalty, score / penalty)
        if self._counts:
            said = torch.tensor(list(self._counts))
            times = torch.tensor(list(self._counts.values()), dtype=logits.dtype)
            logits[said] -= sampling.frequency_penalty * times + sampling.presence_penalty
        return logits

    def _draw(self, logits: Tensor) -> int:
        sampling = self.sampling
        if self._generator is None:
            return int(logits.argmax())
        logits = logits / sampling.temperature
        if 0 < sampling.top_k < logits.shape[0]:
            least = logits.topk(sampling.top_k).values[-1]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if sampling.top_p < 1.0:
            logits = _nucleus(logits, sampling.top_p)
        probabilities = logits.softmax(dim=-1)
        if sampling.min_p > 0.0:
            too_small = probabilities < sampling.min_p * probabilities.max()
            probabilities = probabilities.masked_fill(too_small, 0.0)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keeps the likeliest tokens whose probabilities reach top_p; at least one stays."""
    ordered, order = logits.sort(descending=True)
    before = ordered.softmax(dim=-1).cumsum(dim=-1).roll(1)
    before[0] = 0.0
    return logits.masked_fill(
        torch.zeros_like(logits, dtype=torch.bool).scatter(0, order, before >= top_p), -torch.inf
    )
