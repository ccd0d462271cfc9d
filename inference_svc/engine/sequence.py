"""One generation inside the engine: its tokens, its cache and where it stands.

The engine thread alone changes it; knows no other sequence and no event loop.
"""

import time
from dataclasses import dataclass, field
from enum import Enum

from inference_svc.core import Ending, FinishReason, Prompt, Sampling
from inference_svc.engine.detokenizer import Detokenizer, StopScanner
from inference_svc.engine.kv_cache import RowCache
from inference_svc.engine.sampler import RowSampler


class Status(Enum):
    """Life of a sequence, in order."""

    WAITING = "WAITING"
    PREFILLING = "PREFILLING"
    DECODING = "DECODING"
    FINISHED = "FINISHED"


@dataclass(eq=False)
class Sequence:
    """What travels through the engine."""

    prompt: Prompt
    sampling: Sampling
    slot: int
    sampler: RowSampler
    detokenizer: Detokenizer
    scanner: StopScanner
    end_tokens: frozenset[int]
    status: Status = Status.WAITING
    cache: RowCache | None = None
    output: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    submit_time: float = field(default_factory=time.monotonic)
    admit_time: float = 0.0
    first_token_time: float = 0.0

    @property
    def num_reserved_tokens(self) -> int:
        return len(self.prompt.tokens) + self.sampling.max_output_tokens

    @property
    def num_prefilled_tokens(self) -> int:
        return self.cache.length if self.cache else 0

    def next_chunk(self, size: int) -> tuple[int, ...]:
        """Prompt tokens to run next."""
        start = self.num_prefilled_tokens
        return self.prompt.tokens[start : start + size]

    @property
    def is_prefilled(self) -> bool:
        return self.num_prefilled_tokens >= len(self.prompt.tokens)

    def append(self, token: int) -> str:
        """Takes a chosen token; returns the text it lets out. May finish the sequence."""
        if not self.output:
            self.first_token_time = time.monotonic()
        self.output.append(token)
        if token in self.end_tokens and not self.sampling.ignore_end:
            return self._finish(FinishReason.STOP)
        text = self.scanner.push(self.detokenizer.add(token))
        if self.scanner.is_stopped:
            self._end(FinishReason.STOP_SEQUENCE)
        elif len(self.output) >= self.sampling.max_output_tokens:
            text += self._finish(FinishReason.MAX_TOKENS)
        return text

    def _finish(self, reason: FinishReason) -> str:
        """Ends the sequence and lets out what was held back."""
        text = self.scanner.push(self.detokenizer.finish())
        if self.scanner.is_stopped:
            reason = FinishReason.STOP_SEQUENCE
        else:
            text += self.scanner.finish()
        self._end(reason)
        return text

    def _end(self, reason: FinishReason) -> None:
        self.finish_reason = reason
        self.status = Status.FINISHED

    def ending(self) -> Ending:
        """Only for a sequence that finished by itself."""
        assert self.finish_reason is not None
        now = time.monotonic()
        return Ending(
            self.finish_reason,
            tuple(self.output),
            queue_s=self.admit_time - self.submit_time,
            prefill_s=self.first_token_time - self.admit_time,
            decode_s=now - self.first_token_time,
        )
