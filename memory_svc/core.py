"""The nouns of memory_svc: a memory, its states, keys and history; no library beyond text rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from hashlib import sha256
from typing import Any

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
    """Life of a memory. EXPIRED is seen past its time, and stored once the sweep took its text."""

    ACTIVE = 1
    SUPERSEDED = 2
    RETIRED = 3
    EXPIRED = 4
    DELETED = 5


LIVE_STATES = (State.ACTIVE, State.RETIRED)
# Nothing that was said is left; they keep older words of their key from coming alive.
EMPTIED_STATES = (State.EXPIRED, State.DELETED)
DEFAULT_IMPORTANCE = 0.5


class ChangeKind(IntEnum):
    """What happened to a memory."""

    CREATED = 1
    UPDATED = 2
    DUPLICATE_FOLDED = 3
    SUPERSEDED = 4
    RETIRED = 5
    REVIVED = 6
    EXPIRED = 7
    DELETED = 8
    REEMBEDDED = 9


@dataclass(frozen=True)
class Change:
    """One entry of a memory's history; it lives in the memory's own row, so the two never part."""

    kind: ChangeKind
    time: datetime
    # Who caused it; a service name for automatic changes.
    principal: str
    # What a reader saw after it and no longer saw after the next; see verbs/history.py.
    fields: Mapping[str, Any] = field(default_factory=dict)


# Fields of a memory that hold what was said.
SAID = ("text", "question", "subject_key", "labels")


def without_text(changes: Sequence[Change]) -> tuple[Change, ...]:
    """A history in which nothing that was said can be read."""
    return tuple(
        replace(change, fields={k: v for k, v in change.fields.items() if k not in SAID})
        for change in changes
    )


@dataclass(frozen=True)
class Counters:
    """How a memory was used; counted now and then, not transactional."""

    retrieved_count: int = 0
    injected_count: int = 0
    agreed_count: int = 0
    disagreed_count: int = 0
    last_use_time: datetime | None = None


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
    importance: float = DEFAULT_IMPORTANCE
    # True in the world from then on, and until then; None is from its creation, and for good.
    valid_start_time: datetime | None = None
    valid_end_time: datetime | None = None
    expire_time: datetime | None = None
    # When it stopped being the live one of its key; None while it is.
    live_end_time: datetime | None = None
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
    # Of the CreateMemory that stored it; those folded into it stand in its history.
    request_id: str = ""
    # Hash of owner, visibility, conversation and subject key: one live memory for each.
    supersession_key: str = ""
    # Hash of the normalised question: how an exact key is found.
    question_key: str = ""
    # Hash of the entity words, for differently worded corrections of the same thing.
    entity_key: str = ""
    counters: Counters = field(default=Counters(), compare=False)
    # Oldest first; see verbs/history.py.
    changes: tuple[Change, ...] = field(default=(), repr=False, compare=False)
    vector: Vector = field(default=(), repr=False, compare=False)

    @property
    def name(self) -> str:
        return f"{self.user}/memories/{self.memory_id}"

    @property
    def search_text(self) -> str:
        """What is embedded: the question, for a key of question and answer finds less."""
        return self.question or self.text

    @property
    def etag(self) -> str:
        """Changes with every write that a reader sees; counting its use is none."""
        return f'"{round(self.update_time.timestamp() * 1_000_000):x}-{int(self.state)}"'

    def state_at(self, now: datetime) -> State:
        """The state that a reader sees."""
        ends = (self.expire_time, self.valid_end_time)
        is_over = any(end is not None and end <= now for end in ends)
        return State.EXPIRED if is_over and self.state in LIVE_STATES else self.state

    def tombstone(self, now: datetime) -> "Memory":
        """What a delete leaves: enough to keep it from coming back, nothing that was said."""
        return replace(
            self,
            text="",
            question="",
            subject_key="",
            labels={},
            changes=without_text(self.changes),
            question_key="",
            entity_key="",
            state=State.DELETED,
            live_end_time=self.live_end_time or now,
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
    """What the gate and supersession ask for; cosines but for the probability."""

    # That a correction applies, so that it may be said for the model.
    probability: float = 0.40
    # ... so that it may be told to the model, which then decides.
    related: float = 0.05
    # Of a memory that is no correction.
    similarity: float = 0.60
    ambiguity_margin: float = 0.01
    supersede: float = 0.92
    supersede_form: float = 0.90
    near_duplicate: float = 0.97

    @property
    def least(self) -> float:
        """Probability that a correction needs at least."""
        return min(self.related, self.probability)


def owner_of(name: str) -> tuple[str, str]:
    """`users/{user}` and the memory id of a memory's name."""
    ids = names.parse(names.MEMORY, name)
    if ids is None:
        raise ValueError(f"not a memory name: {name!r}")
    return names.user_name(ids[0]), ids[1]
