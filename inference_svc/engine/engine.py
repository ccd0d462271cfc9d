"""The engine: one thread that owns the model and steps, and its doors to the event loop.

The loop never waits for the thread: it submits, aborts, and receives what each step produced.
Knows no adapter names and no requests, only tokens and slots.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog
import torch

from inference_svc.core import (
    DEFAULT_MAX_OUTPUT_TOKENS,
    Delta,
    Message,
    ModelFacts,
    Prompt,
    Sampling,
)
from inference_svc.engine.detokenizer import Detokenizer, StopScanner
from inference_svc.engine.kv_cache import CacheBudget
from inference_svc.engine.model_runner import ModelRunner
from inference_svc.engine.running import News, RunningGeneration
from inference_svc.engine.sampler import RowSampler, choose_tokens
from inference_svc.engine.scheduler import Scheduler
from inference_svc.engine.sequence import Sequence, Status
from inference_svc.engine.tokenizer import ChatTokenizer
from selm.errors import SelmError

log = structlog.get_logger()
Result = TypeVar("Result")


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


class AsyncEngine:
    """Start it inside a running event loop with `start`, end it with `stop`."""

    def __init__(
        self,
        runner: ModelRunner,
        tokenizer: ChatTokenizer,
        facts: ModelFacts,
        limits: EngineLimits,
    ) -> None:
        self.facts = facts
        self.runner = runner
        self._tokenizer = tokenizer
        self._limits = limits
        self._budget = CacheBudget(runner.cache_shape, limits.cache_bytes)
        self._scheduler = Scheduler(self._budget, limits.max_running)
        self._doors: dict[Sequence, RunningGeneration] = {}
        # Everything the loop wants from the thread, done in order between two steps.
        self._errands: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: list[tuple[RunningGeneration, News]] = []

    # On the event loop.

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Ends what still runs with DRAINING and joins the thread."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def num_unfinished(self) -> int:
        return len(self._doors)

    @property
    def num_running(self) -> int:
        return len(self._scheduler.running)

    @property
    def num_waiting(self) -> int:
        return max(0, self.num_unfinished - self.num_running)

    @property
    def num_reserved_cache_tokens(self) -> int:
        return self._budget.num_tokens_reserved

    def prompt(
        self,
        messages: SequenceOf[Message],
        raw: str = "",
        lead: str = "",
        plain: SequenceOf[Message] | None = None,
    ) -> Prompt:
        return self._tokenizer.prompt(messages, raw, lead, plain)

    def submit(self, prompt: Prompt, sampling: Sampling, slot: int) -> RunningGeneration:
        """Puts a generation into the waiting room; refuses what can never fit, and too many."""
        self._check_alive()
        sampling = self._within_context(prompt, sampling)
        limit = self._limits.max_running + self._limits.max_waiting
        if self.num_unfinished >= limit:
            raise SelmError(
                "QUEUE_FULL",
                "the waiting room is full",
                metadata={
                    "waiting": str(self.num_waiting),
                    "limit": str(self._limits.max_waiting),
                },
                retry_after_s=1.0,
            )
        sequence = Sequence(
            prompt,
            sampling,
            slot,
            RowSampler(sampling, prompt.tokens),
            Detokenizer(self._tokenizer.decode, prompt.tokens),
            StopScanner(sampling.stop_sequences),
            self._tokenizer.end_tokens,
        )
        door = RunningGeneration(
            lambda error: self._post(lambda: self._drop(sequence, error)), self._limits.max_unread
        )
        self._doors[sequence] = door
        self._post(lambda: self._scheduler.add(sequence))
        return door

    async def between_steps(self, work: Callable[[], Result]) -> Result:
        """Runs work on the engine thread while no step runs."""
        self._check_alive()
        future: Future[Result] = Future()

        def errand() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

        self._post(errand)
        return await asyncio.wrap_future(future)

    def _check_alive(self) -> None:
        if self._is_stopping:
            raise _draining()
        if not self._thread.is_alive():
            raise SelmError("INTERNAL", "the engine has stopped")

    def _within_context(self, prompt: Prompt, sampling: Sampling) -> Sampling:
        room = self.facts.context_length - len(prompt.tokens)
        wanted = sampling.max_output_tokens or min(DEFAULT_MAX_OUTPUT_TOKENS, max(room, 1))
        if wanted > room:
            raise SelmError(
                "CONTEXT_TOO_LONG",
                f"{len(prompt.tokens)} input tokens and {wanted} output tokens do not fit"
                f" the context of {self.facts.context_length}",
                metadata={
                    "input_tokens": str(len(prompt.tokens)),
                    "max_output_tokens": str(wanted),
                    "context_length": str(self.facts.context_length),
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

    def _post(self, errand: Callable[[], None]) -> None:
        self._errands.append(errand)
        self._wake.set()

    # On the engine thread.

    def _run(self) -> None:
        if self._limits.num_threads:
            torch.set_num_threads(self._limits.num_threads)
        try:
            while not self._is_stopping:
                self._run_errands()
                if self._scheduler.is_idle:
                    self._deliver()
                    self._wake.wait()
                else:
                    self._step()
                self._wake.clear()
        except Exception:
            log.exception("engine_died")
            raise
        finally:
            self._run_errands()
            for sequence in list(self._doors):
                self._drop(sequence, _draining())
            self._deliver()

    def _run_errands(self) -> None:
        while self._errands:
            self._errands.popleft()()

    def _step(self) -> None:
        """Admit, compute one chunk of one prompt, one token for every decoding row, deliver."""
        self._scheduler.admit()
        prefill = self._scheduler.next_prefill()
        if prefill is not None:
            self._guard([prefill], self._prefill)
        decoding = self._scheduler.decoding()
        if decoding:
            self._guard(decoding, self._decode)
        self._deliver()

    def _guard(self, rows: list[Sequence], work: Callable[[list[Sequence]], None]) -> None:
        """A fault ends the rows it hit, never the engine."""
        try:
            work(rows)
        except Exception:
            log.exception("engine_step_failed", num_rows=len(rows))
            for sequence in rows:
                self._drop(sequence, SelmError("INTERNAL", "the engine failed on this request"))

    def _prefill(self, rows: list[Sequence]) -> None:
        (sequence,) = rows
        assert sequence.cache is not None
        chunk = sequence.next_chunk(self._limits.prefill_chunk_tokens)
        logits = self.runner.prefill(chunk, sequence.cache, sequence.slot)
        if sequence.is_prefilled:
            sequence.status = Status.DECODING
            self._choose(logits.unsqueeze(0), rows)

    def _decode(self, rows: list[Sequence]) -> None:
        caches = [row.cache for row in rows if row.cache is not None]
        logits = self.runner.decode([r.output[-1] for r in rows], caches, [r.slot for r in rows])
        self._choose(logits, rows)

    def _choose(self, logits: torch.Tensor, rows: list[Sequence]) -> None:
        """logits: [rows, vocabulary]. A row whose logits are not finite fails alone."""
        finite = logits.isfinite().all(dim=-1).tolist()
        good = [index for index, is_finite in enumerate(finite) if is_finite]
        if len(good) < len(rows):
            for index, is_finite in enumerate(finite):
                if not is_finite:
                    self._drop(rows[index], SelmError("INTERNAL", "the model gave no number"))
            logits, rows = logits[good], [rows[index] for index in good]
        tokens = choose_tokens(logits, [row.sampler for row in rows])
        for sequence, token in zip(rows, tokens, strict=True):
            self._tell(sequence, sequence.append(token))

    def _tell(self, sequence: Sequence, text: str) -> None:
        door = self._doors[sequence]
        door.num_pushed += 1
        self._news.append((door, Delta(text, len(sequence.output))))
        if sequence.finish_reason is not None:
            self._end(sequence, sequence.ending())
        elif door.is_overfull:
            frames = str(self._limits.max_unread)
            error = SelmError(
                "CLIENT_TOO_SLOW",
                "the caller reads too slowly",
                metadata={"buffered_frames": frames},
            )
            self._drop(sequence, error)

    def _drop(self, sequence: Sequence, error: SelmError | None) -> None:
        """Ends a sequence that did not end by itself."""
        self._end(sequence, error or SelmError("ABORTED_BY_CALLER", "the generation was ended"))

    def _end(self, sequence: Sequence, news: News) -> None:
        door = self._doors.pop(sequence, None)
        if door is None:
            return  # Over already: an abort that came late.
        self._scheduler.remove(sequence)
        self._news.append((door, news))

    def _deliver(self) -> None:
        """One call into the loop per step, however many rows have news."""
        if not self._news:
            return
        news, self._news = self._news, []
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_hand_out, news)
        except RuntimeError:
            # The loop is closed: nobody is left to tell.
            log.info("engine_loop_closed", num_news=len(news))


def _hand_out(news: Iterable[tuple[RunningGeneration, News]]) -> None:
    for door, item in news:
        door.deliver(item)


def _draining() -> SelmError:
    return SelmError("DRAINING", "the server is shutting down", retry_after_s=1.0)
