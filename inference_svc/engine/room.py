"""Bounds of an engine, and whether a request can ever run within them.

Knows no queue; whether it can run now is the scheduler's question.
"""

from dataclasses import dataclass, replace

from inference_svc.core import DEFAULT_MAX_OUTPUT_TOKENS, Prompt, Sampling
from inference_svc.engine.kv_cache import CacheBudget
from selm.errors import SelmError


@dataclass(frozen=True)
class EngineLimits:
    """Bounds of one engine."""

    max_running: int = 16
    max_waiting: int = 64
    cache_bytes: int = 2 << 30
    # A long prompt is computed in such pieces, so that other rows and aborts are not held up.
    prefill_chunk_tokens: int = 512
    # Deltas that a slow reader may leave unread.
    max_unread: int = 256
    num_threads: int = 0


class Room:
    """The bounds of one generation."""

    def __init__(self, context_length: int, budget: CacheBudget) -> None:
        self._context_length = context_length
        self._budget = budget

    def fits(self, prompt: Prompt, sampling: Sampling) -> bool:
        """Whether the prompt leaves room for all the output that is wanted."""
        wanted = sampling.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
        needed = len(prompt.tokens) + wanted
        return needed <= self._context_length and self._budget.fits_alone(needed)

    def claim(self, prompt: Prompt, sampling: Sampling) -> Sampling:
        """The sampling with its output length filled in; refuses what can never fit."""
        room = self._context_length - len(prompt.tokens)
        wanted = sampling.max_output_tokens or min(DEFAULT_MAX_OUTPUT_TOKENS, max(room, 1))
        if wanted > room:
            raise SelmError(
                "CONTEXT_TOO_LONG",
                f"{len(prompt.tokens)} input tokens and {wanted} output tokens do not fit"
                f" the context of {self._context_length}",
                metadata={
                    "input_tokens": str(len(prompt.tokens)),
                    "max_output_tokens": str(wanted),
                    "context_length": str(self._context_length),
                },
            )
        needed = len(prompt.tokens) + wanted
        if not self._budget.fits_alone(needed):
            raise SelmError(
                "KV_CACHE_EXHAUSTED",
                f"{needed} tokens do not fit the cache of {self._budget.num_tokens_total}",
                metadata={
                    "tokens_needed": str(needed),
                    "tokens_total": str(self._budget.num_tokens_total),
                },
            )
        return replace(sampling, max_output_tokens=wanted)
