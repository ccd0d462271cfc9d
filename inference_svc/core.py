"""The nouns of inference: what is asked, what is recalled, what is answered.

Knows no wire, no bus, no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from inference_svc.revisions import AdapterReason, Selection, Selector
from selm.memory_use import GatedMemory, MemoryUse

DEFAULT_MAX_OUTPUT_TOKENS = 256


class FinishReason(Enum):
    """Why a generation ended well; errors are raised instead."""

    STOP = "STOP"
    MAX_TOKENS = "MAX_TOKENS"
    STOP_SEQUENCE = "STOP_SEQUENCE"
    DIRECT_ANSWER = "DIRECT_ANSWER"


class MemoryState(Enum):
    """What became of memory for one generation."""

    OFF = "OFF"
    READY = "READY"
    DEGRADED = "DEGRADED"
    STALE = "STALE"


@dataclass(frozen=True)
class Message:
    """One chat message; role is system, user or assistant."""

    role: str
    text: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, every default filled in. max_output_tokens 0: 256 or the room left."""

    max_output_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop_sequences: tuple[str, ...] = ()
    seed: int = 0
    ignore_end: bool = False

    @property
    def has_penalties(self) -> bool:
        return (
            self.repetition_penalty != 1.0
            or self.frequency_penalty != 0.0
            or self.presence_penalty != 0.0
        )

    @property
    def is_plain_greedy(self) -> bool:
        """The likeliest token and nothing else: rows like this share one argmax."""
        return self.temperature == 0.0 and not self.has_penalties


@dataclass(frozen=True)
class MemoryOptions:
    """How memory may take part."""

    max_use: MemoryUse = MemoryUse.DIRECT
    timeout_s: float = 0.3
    consistency_token: str = ""
    max_memories: int = 1
    # Tokens of the block of memories.
    max_context_tokens: int = 256
    # Cosine from which a similar question is answered directly too; None: never.
    direct_similarity: float | None = None


@dataclass(frozen=True)
class Ask:
    """One valid request. Exactly one of messages and prompt is set."""

    messages: tuple[Message, ...]
    prompt: str
    selector: Selector
    sampling: Sampling
    memory: MemoryOptions
    tenant: str
    user: str
    conversation: str = ""
    store: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def query(self) -> str:
        """What memory and the scope gate look at: the last thing the person said."""
        spoken = [message.text for message in self.messages if message.role == "user"]
        return self.prompt or (spoken[-1] if spoken else "")

    @property
    def is_single_question(self) -> bool:
        """All that was said is the query itself; a system message does not count as said."""
        spoken = [message.role for message in self.messages if message.role != "system"]
        return bool(self.prompt) or spoken == ["user"]

    @property
    def continues_reply(self) -> bool:
        """The caller opened the reply itself, so no lead can be put before it."""
        return bool(self.messages) and self.messages[-1].role == "assistant"


@dataclass(frozen=True)
class Hit:
    """A memory that the search found, with the gate's verdict."""

    memory: str
    question: str
    answer: str
    lesson: str
    create_time: datetime
    is_active: bool
    # A question with its answer; else a statement.
    is_correction: bool
    is_in_scope: bool
    is_exact: bool
    score: float
    # In scope, though the query may ask something else about the same.
    is_related: bool = False
    # Cosine of query and stored question; None if memory was not asked for it.
    similarity: float | None = None
    # The gate's decision as received, handed on to the caller unread.
    decision: object = None

    @property
    def is_likely(self) -> bool:
        """A correction that most probably answers the query, and so decides for all."""
        return self.is_in_scope and self.is_correction and not self.is_related

    @property
    def gated(self) -> GatedMemory:
        return GatedMemory(
            is_in_scope=self.is_in_scope,
            is_active=self.is_active,
            is_correction=self.is_correction,
            is_exact=self.is_exact,
            is_related=self.is_related,
            similarity=self.similarity,
        )


@dataclass(frozen=True)
class Recollection:
    """What memory said, best hit first."""

    state: MemoryState
    hits: tuple[Hit, ...] = ()
    duration_s: float = 0.0


@dataclass(frozen=True)
class ModelFacts:
    """The base model and its limits."""

    name: str
    source: str
    sha256: str
    architecture: str
    dtype: str
    device: str
    context_length: int
    vocabulary_size: int
    layer_count: int
    target_modules: tuple[str, ...]
    max_lora_rank: int
    adapter_slots: int


@dataclass(frozen=True)
class Prompt:
    """Tokens to continue, and the text that opens the reply (already among the tokens)."""

    tokens: tuple[int, ...]
    lead: str = ""
    # Of these tokens, what recalled memories added.
    memory_tokens: int = 0


@dataclass(frozen=True)
class Delta:
    """More text; output_tokens counts from the start."""

    text: str
    output_tokens: int


@dataclass(frozen=True)
class Ending:
    """How a generation ended and where its time went."""

    finish_reason: FinishReason
    # Special ones included.
    tokens: tuple[int, ...] = ()
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What shapes one answer, decided before its first token."""

    applies_adapter: bool
    adapter_reason: AdapterReason | None
    # Lesson in whose scope the request is; empty if none.
    lesson: str = ""
    # The memories that take part, best first, and how the best one does; the rest is context.
    hits: tuple[Hit, ...] = ()
    use: MemoryUse = MemoryUse.NONE

    def use_of(self, hit: Hit) -> MemoryUse:
        """How one of the recalled memories took part."""
        if all(hit is not used for used in self.hits):
            return MemoryUse.NONE
        return self.use if hit is self.hits[0] else MemoryUse.CONTEXT


@dataclass(frozen=True)
class Usage:
    """Tokens counted for one generation."""

    input_tokens: int = 0
    memory_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Timings:
    """Where the time of one generation went, in seconds."""

    queue_s: float = 0.0
    recall_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    first_token_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True)
class Started:
    """What a request was resolved to; always the first frame."""

    generation_id: str
    selection: Selection
    plan: Plan
    recollection: Recollection
    input_tokens: int
    seed: int


@dataclass(frozen=True)
class Finished:
    """The last frame of a generation that ended well."""

    finish_reason: FinishReason
    usage: Usage
    timings: Timings


Frame = Started | Delta | Finished


@dataclass(frozen=True)
class Record:
    """A generation after its end, however it ended; what is published."""

    ask: Ask
    started: Started
    finished: Finished | None
    text: str
    create_time: datetime
    # gRPC code name, e.g. OK or CANCELLED.
    status_code: str
