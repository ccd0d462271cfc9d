"""What is asked and what comes back: options of one question, whole answers, streamed answers."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from google.protobuf.duration_pb2 import Duration

from selm.api.inference.v1 import (
    generation_pb2,
    inference_service_pb2,
    inference_service_pb2_grpc,
    input_pb2,
)
from selm.api.memory.v1 import memory_pb2
from selm.client_retry import Patience
from selm.errors import SelmError
from selm.names import REVISION_OR_ALIAS, parse


@dataclass(frozen=True)
class Ask:
    """How to answer; every field has the contract's default."""

    # Earlier messages, oldest first: (Role, text).
    history: Sequence[tuple["input_pb2.Role.ValueType", str]] = ()
    system: str = ""
    # `adapters/{adapter}`, a revision or alias name, a sha256, or `none` for the base model.
    adapter: str = ""
    max_use: "memory_pb2.MemoryUse.ValueType" = memory_pb2.MEMORY_USE_UNSPECIFIED
    # 0 leaves it to the server.
    max_memories: int = 0
    # Cosine from which a stored answer is given as it is; None leaves it to the operator.
    direct_similarity: float | None = None
    consistency_token: str = ""
    # Longest wait for memory; None is the server's default.
    memory_timeout_s: float | None = None
    max_output_tokens: int = 0
    temperature: float | None = None
    seed: int | None = None
    user: str = ""
    store: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def request(self, text: str) -> inference_service_pb2.GenerateStreamRequest:
        """The request asking `text` after the earlier messages."""
        turns = [(input_pb2.ROLE_SYSTEM, self.system)] if self.system else []
        turns += [*self.history, (input_pb2.ROLE_USER, text)]
        messages = [input_pb2.ChatMessage(role=role, text=said) for role, said in turns]
        return inference_service_pb2.GenerateStreamRequest(
            input=input_pb2.GenerationInput(chat=input_pb2.ChatInput(messages=messages)),
            options=input_pb2.GenerationOptions(
                adapter=selector(self.adapter),
                sampling_params=input_pb2.SamplingParams(
                    max_output_tokens=self.max_output_tokens,
                    temperature=self.temperature,
                    seed=self.seed,
                ),
                memory_options=input_pb2.MemoryOptions(
                    max_use=self.max_use,
                    max_memories=self.max_memories,
                    direct_similarity=self.direct_similarity,
                    timeout=_duration(self.memory_timeout_s),
                    consistency_token=self.consistency_token,
                ),
                user=self.user,
                store=self.store,
                labels=self.labels,
            ),
        )


def selector(adapter: str) -> input_pb2.AdapterSelector | None:
    """The selector a plain name means; None leaves the choice to the server."""
    if not adapter:
        return None
    if adapter == "none":
        return input_pb2.AdapterSelector(base=input_pb2.BaseModelOnly())
    if "/" not in adapter:
        return input_pb2.AdapterSelector(sha256=adapter)
    if parse(REVISION_OR_ALIAS, adapter):
        return input_pb2.AdapterSelector(adapter_revision=adapter)
    return input_pb2.AdapterSelector(adapter=adapter)


@dataclass(frozen=True)
class Answer:
    """One answer and where it came from."""

    text: str
    # What feedback points to.
    generation: str
    resolution: generation_pb2.Resolution
    memory_state: "generation_pb2.MemoryState.ValueType"
    memories: Sequence[generation_pb2.RecalledMemory]
    finish_reason: "generation_pb2.FinishReason.ValueType"

    @classmethod
    def of_generation(cls, generation: generation_pb2.Generation) -> Self:
        """From the reply of Generate."""
        candidate = generation.candidates[0] if generation.candidates else None
        return cls(
            text=candidate.text if candidate else "",
            generation=generation.name,
            resolution=generation.resolution,
            memory_state=generation.memory_state,
            memories=tuple(generation.memories),
            finish_reason=candidate.finish_reason
            if candidate
            else generation_pb2.FINISH_REASON_UNSPECIFIED,
        )


class AnswerStream:
    """Pieces of text as they come; once they ended, `answer` is the whole.

    A connection lost before the first piece is opened again; after it the error is raised, because
    a repeat would be another generation.
    """

    def __init__(
        self,
        service: "inference_service_pb2_grpc.InferenceServiceAsyncStub",
        request: inference_service_pb2.GenerateStreamRequest,
        patience: Patience,
    ) -> None:
        self._service = service
        self._request = request
        self._patience = patience
        self._pieces: list[str] = []
        self._finished = False
        self.started = inference_service_pb2.GenerateStreamResponse.Started()
        self.finished = inference_service_pb2.GenerateStreamResponse.Finished()
        # time.monotonic() when the first text arrived; None until then.
        self.first_text_time: float | None = None

    async def __aiter__(self) -> AsyncIterator[str]:
        wait = self._patience.start()
        while not self._finished:
            try:
                async for piece in self._once():
                    yield piece
                return
            except SelmError as error:
                if self._pieces:
                    raise
                await wait.after(error)

    async def _once(self) -> AsyncIterator[str]:
        async for response in self._service.GenerateStream(self._request):
            event = response.WhichOneof("event")
            if event == "started":
                self.started = response.started
            elif event == "delta" and response.delta.text:
                if self.first_text_time is None:
                    self.first_text_time = time.monotonic()
                self._pieces.append(response.delta.text)
                yield response.delta.text
            elif event == "finished":
                self.finished = response.finished
                self._finished = True

    @property
    def answer(self) -> Answer:
        """What came so far; the whole answer once the stream ended."""
        reasons = self.finished.finish_reasons
        return Answer(
            text="".join(self._pieces),
            generation=self.started.generation,
            resolution=self.started.resolution,
            memory_state=self.started.memory_state,
            memories=tuple(self.started.memories),
            finish_reason=reasons[0] if reasons else generation_pb2.FINISH_REASON_UNSPECIFIED,
        )

    async def whole(self) -> Answer:
        """Reads to the end."""
        async for _ in self:
            pass
        return self.answer


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
