"""Asking many questions over gRPC in groups of one size and order, and what came back.

A question that fails is an answer with a failure, never an exception: one bad row ends no run.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
from rich.progress import Progress

from selm.api.adapter.v1 import adapter_pb2
from selm.api.inference.v1 import generation_pb2, inference_service_pb2
from selm.api.memory.v1 import memory_pb2
from selm.client import SelmClient
from selm.client_answer import Ask
from selm.client_retry import is_outage
from selm.errors import SelmError
from selm.names import DEFAULT_ADAPTER

USER = "users/bench"
GROUP_SIZE = 8
MAX_OUTPUT_TOKENS = 24
# The longest the server allows: nothing here is about a busy machine.
MEMORY_TIMEOUT_S = 5.0

# In a row, each waited for with all patience.
MAX_OUTAGES = 2 * GROUP_SIZE

_WITHOUT_MEMORY = frozenset(
    {generation_pb2.MEMORY_STATE_DEGRADED, generation_pb2.MEMORY_STATE_STALE}
)

Item = TypeVar("Item")
Found = TypeVar("Found")


class StackGoneError(Exception):
    """Nobody answers any more: the run cannot go on."""


@dataclass(frozen=True)
class Way:
    """A named policy of asking: what memory may do, and which weights answer."""

    name: str
    max_use: "memory_pb2.MemoryUse.ValueType" = memory_pb2.MEMORY_USE_UNSPECIFIED
    # As in selm.client_answer.Ask: empty leaves the choice to the server.
    adapter: str = ""
    scope_mode: "adapter_pb2.ScopeMode.ValueType" = adapter_pb2.SCOPE_MODE_UNSPECIFIED
    # Least similarity for a direct answer, the caller's opt-in; None leaves it to the server.
    near_exact: float | None = None

    def request(self, question: str, token: str = "") -> inference_service_pb2.GenerateRequest:
        """Greedy, short, with all the time for memory that the server allows."""
        streamed = Ask(
            adapter=self.adapter,
            max_use=self.max_use,
            consistency_token=token,
            memory_timeout_s=MEMORY_TIMEOUT_S,
            max_output_tokens=MAX_OUTPUT_TOKENS,
            direct_similarity=self.near_exact,
            user=USER,
        ).request(question)
        if self.scope_mode:
            streamed.options.adapter.scope_mode = self.scope_mode
        return inference_service_pb2.GenerateRequest(input=streamed.input, options=streamed.options)


DEFAULT = Way("default")
CONTEXT = Way("context", memory_pb2.MEMORY_USE_CONTEXT)
NEAR_EXACT = Way("near_exact", near_exact=0.9)
NO_MEMORY = Way("none", memory_pb2.MEMORY_USE_NONE)
# The weights alone: no adapter, the alias's own mode, and the adapter for every request.
BASE = Way("base", memory_pb2.MEMORY_USE_NONE, adapter="none")
SCOPED = Way("scoped", memory_pb2.MEMORY_USE_NONE, adapter=DEFAULT_ADAPTER)
ALWAYS = Way(
    "always",
    memory_pb2.MEMORY_USE_NONE,
    adapter=DEFAULT_ADAPTER,
    scope_mode=adapter_pb2.SCOPE_MODE_ALWAYS,
)


@dataclass(frozen=True)
class Reply:
    """What one question got; `text` is None if it got no answer that counts."""

    text: str | None
    # Enum words without their prefix.
    use: str = ""
    adapter_reason: str = ""
    revision: str = ""
    generation: str = ""
    # Why there is no text.
    failure: str = ""


class Asker:
    """Asks group by group: every group ends before the next begins, so that layouts repeat."""

    def __init__(self, selm: SelmClient, progress: Progress) -> None:
        self._selm = selm
        self._progress = progress
        self._num_outages = 0

    async def ask_all(self, label: str, questions: Sequence[str], way: Way) -> list[Reply]:
        """One reply per question, in order."""
        return await self.in_groups(label, questions, lambda question: self.ask(question, way))

    async def ask(self, question: str, way: Way, token: str = "") -> Reply:
        """One question; its error is in the reply."""
        request = way.request(question, token)
        service = self._selm.inference.service
        try:
            answered = await self.through(lambda: service.Generate(request))
        except SelmError as error:
            return Reply(None, failure=error.reason)
        return reply_of(answered.generation)

    async def through(self, call: Callable[[], Awaitable[Found]]) -> Found:
        """One call with the client's patience; ends a run whose stack is gone.

        Otherwise every single question would be waited for with all patience.
        """
        try:
            found = await self._selm.patience.through(call)
        except SelmError as error:
            is_silent = is_outage(error) or error.code is grpc.StatusCode.DEADLINE_EXCEEDED
            self._num_outages = self._num_outages + 1 if is_silent else 0
            if self._num_outages >= MAX_OUTAGES:
                message = f"{self._num_outages} calls in a row were not answered: {error}"
                raise StackGoneError(message) from error
            raise
        self._num_outages = 0
        return found

    async def in_groups(
        self,
        label: str,
        items: Sequence[Item],
        do: Callable[[Item], Awaitable[Found]],
    ) -> list[Found]:
        """Does the same with every item, eight at a time, with a progress bar."""
        task = self._progress.add_task(f"{label:<30}", total=len(items), note="")
        found: list[Found] = []
        for start in range(0, len(items), GROUP_SIZE):
            group = items[start : start + GROUP_SIZE]
            found += await asyncio.gather(*(do(item) for item in group))
            self._progress.update(task, completed=len(found))
        return found


def reply_of(generation: generation_pb2.Generation) -> Reply:
    """What counts of a generation. One whose memory was away answers another question than ours."""
    if generation.memory_state in _WITHOUT_MEMORY:
        state = generation_pb2.MemoryState.Name(generation.memory_state)
        return Reply(None, failure=state)
    if not generation.candidates:
        return Reply(None, failure="NO_CANDIDATE")
    resolution = generation.resolution
    use = max((memory.use for memory in generation.memories), default=memory_pb2.MEMORY_USE_NONE)
    reason = generation_pb2.AdapterReason.Name(resolution.adapter_reason)
    return Reply(
        text=generation.candidates[0].text,
        use=memory_pb2.MemoryUse.Name(use).removeprefix("MEMORY_USE_"),
        adapter_reason=reason.removeprefix("ADAPTER_REASON_"),
        revision=resolution.adapter_revision if resolution.adapter_applied else "",
        generation=generation.name,
    )
