"""The nouns of memory_svc and the ports its back room fulfils; no library beyond text rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from hashlib import sha256
from typing import Protocol

from selm import names, questions

Vector = Sequence[float]


# NOTE: the numbers of these enums are those of the contract and of stored rows.
class MemoryType(IntEnum):
    """What kind of thing is remembered."""

    CORRECTION = 1
    FACT = 2
    PREFERENCE = 3
    CONTEXT = 4
    PROCEDURE = 5


class Visibility(IntEnum):
    """Who may recall a memory."""

    PRIVATE = 1
    SHARED = 2


class State(IntEnum):
    """Life of a memory. EXPIRED is never stored: it is ACTIVE or RETIRED past its time."""

    ACTIVE = 1
    SUPERSEDED = 2
    RETIRED = 3
    EXPIRED = 4
    DELETED = 5


LIVE_STATES = (State.ACTIVE, State.RETIRED)


@dataclass(frozen=True)
class Memory:
    """A remembered text with its owner."""

    tenant: str
    user: str  # `users/{user}`
    memory_id: str
    type: MemoryType
    text: str
    question: str
    subject_key: str
    visibility: Visibility
    create_time: datetime
    update_time: datetime
    conversation: str = ""
    expire_time: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    state: State = State.ACTIVE
    feedback_event: str = ""
    generation: str = ""
    lesson: str = ""
    author: str = ""
    superseded_by: str = ""
    retired_by_revision: str = ""
    duplicate_count: int = 0
    embedding_model: str = ""
    # Place in stream FEEDBACK of what it was learned from; 0 if it was created directly.
    sequence: int = 0
    # Place in stream LESSONS of what last decided between ACTIVE and RETIRED.
    lesson_sequence: int = 0
    # What it carried before an equal correction was folded into it.
    previous_lesson: str = ""
    previous_feedback_event: str = ""
    # Of the CreateMemory that stored it, or that was last folded into it.
    request_id: str = ""
    # Hash of owner, visibility, conversation and subject key: one live memory for each.
    supersession_key: str = ""
    # Hash of the normalised question: how an exact key is found.
    question_key: str = ""
    # Hash of the entity words, for differently worded corrections of the same thing.
    entity_key: str = ""
    vector: Vector = field(default=(), repr=False, compare=False)

    @property
    def name(self) -> str:
        return f"{self.user}/memories/{self.memory_id}"

    @property
    def search_text(self) -> str:
        """What is embedded: the question, for a key of question and answer finds less."""
        return self.question or self.text

    def state_at(self, now: datetime) -> State:
        """The state that a reader sees."""
        is_over = self.expire_time is not None and self.expire_time <= now
        return State.EXPIRED if is_over and self.state in LIVE_STATES else self.state

    def tombstone(self, now: datetime) -> "Memory":
        """What a delete leaves: enough to keep it from coming back, nothing that was said."""
        return replace(
            self,
            text="",
            question="",
            subject_key="",
            labels={},
            question_key="",
            entity_key="",
            state=State.DELETED,
            update_time=now,
            vector=[1.0] + [0.0] * (len(self.vector) - 1),
        )


def with_keys(memory: Memory) -> Memory:
    """The memory with its subject key, unless it has one, and the hashes that it is found by."""
    subject_key = memory.subject_key or questions.subject_key(memory.search_text)
    owner = (memory.tenant, memory.user, str(int(memory.visibility)), memory.conversation)
    words = sorted(questions.entity_words(memory.search_text))
    return replace(
        memory,
        subject_key=subject_key,
        supersession_key=digest(*owner, subject_key),
        question_key=question_key(memory.search_text),
        entity_key=digest(*owner, *words) if words else "",
    )


def question_key(text: str) -> str:
    return digest(questions.normalise(text))


def memory_id_of(*parts: str) -> str:
    """An id that the same cause always gets: a feedback event, or a caller's request_id."""
    return digest(*parts)


def digest(*parts: str) -> str:
    """32 hex digits; the length of each part keeps ("ab", "c") apart from ("a", "bc")."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return sha256(text.encode()).hexdigest()[:32]


def is_newer(one: Memory, other: Memory) -> bool:
    """Whether one was said after the other: by stream order, else by time."""
    if one.sequence and other.sequence:
        return one.sequence > other.sequence
    return one.create_time >= other.create_time


@dataclass(frozen=True)
class GateThresholds:
    """What the gate and supersession ask for; cosines."""

    similarity: float = 0.60
    form: float = 0.55
    ambiguity_margin: float = 0.01
    supersede: float = 0.92
    supersede_form: float = 0.90


@dataclass(frozen=True)
class Condition:
    """Typed conditions, all of which must hold; the tenant is never optional."""

    tenant: str
    # Owner. With `with_shared` also SHARED memories of the tenant; None is every owner.
    user: str | None = None
    with_shared: bool = False
    # As a reader sees them at time `at`; as stored if that is unset.
    states: tuple[State, ...] = ()
    at: datetime | None = None
    types: tuple[MemoryType, ...] = ()
    subject_key: str = ""
    supersession_key: str = ""
    question_key: str = ""
    entity_key: str = ""
    lesson: str = ""
    superseded_by: str = ""
    embedding_model: str = ""
    # Memories of one conversation as well as unbound ones; "" leaves bound ones out; None is any.
    conversation: str | None = None
    start_create_time: datetime | None = None
    end_create_time: datetime | None = None


@dataclass(frozen=True)
class Neighbour:
    """A memory near a vector; cosine -1 to 1."""

    memory: Memory
    cosine: float


class MemoryStore(Protocol):
    """Where memories are kept. Every method may raise STORE_UNAVAILABLE."""

    async def get(self, tenant: str, memory_id: str) -> Memory | None:
        """The memory in any state, with its vector; a strong read."""

    async def put(self, memories: Sequence[Memory]) -> None:
        """Stores all of them, replacing those of equal id; seen by every later read."""

    async def find(self, condition: Condition, limit: int) -> list[Memory]:
        """Memories that fit, with vectors, in no order."""

    async def newest(
        self, condition: Condition, limit: int, before: tuple[datetime, str] | None
    ) -> list[Memory]:
        """Memories that fit, newest first, without vectors; only those after that place."""

    async def nearest(self, condition: Condition, vector: Vector, limit: int) -> list[Neighbour]:
        """Memories that fit, nearest first, without vectors."""


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def model(self) -> str:
        """Name with version, e.g. `all-MiniLM-L6-v2@53aa5117`."""

    @property
    def dimension(self) -> int: ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One unit vector per text, in order."""


def owner_of(name: str) -> tuple[str, str]:
    """`users/{user}` and the memory id of a memory's name."""
    ids = names.parse(names.MEMORY, name)
    if ids is None:
        raise ValueError(f"not a memory name: {name!r}")
    return names.user_name(ids[0]), ids[1]
