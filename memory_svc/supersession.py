"""What a new memory does to the live ones of its key: pure rules of newest wins, no store.

An older one never takes the place of a newer one, in whatever order they arrive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from memory_svc.core import LIVE_STATES, Memory, State, is_newer

SAME_KEY = "a newer memory has the same key"
SAME_MEANING = "a newer memory asks the same about the same thing"
SAME_ANSWER = "the same answer was sent again"


@dataclass(frozen=True)
class Rival:
    """A stored memory that the new one competes with, and why."""

    memory: Memory
    reason: str


@dataclass(frozen=True)
class Superseded:
    """A memory that gave way; of a folded one only its lesson did."""

    memory: Memory
    # Lesson that took its place, or the name of the memory if that has none.
    by: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What to write and what to tell."""

    # The memory that now stands for the new one: itself, what it was folded into, or SUPERSEDED.
    memory: Memory
    writes: tuple[Memory, ...] = ()
    superseded: tuple[Superseded, ...] = ()
    # It was folded into `memory`, which existed.
    is_duplicate: bool = False

    @property
    def is_live(self) -> bool:
        return self.memory.state in LIVE_STATES


def decide(draft: Memory, rivals: Sequence[Rival], now: datetime) -> Outcome:
    """Newest wins; the same answer again is counted instead of stored."""
    live = [rival.memory for rival in rivals if rival.memory.state in LIVE_STATES]
    folded = next((memory for memory in live if _was_folded(draft, memory)), None)
    if folded is not None:
        return Outcome(folded, (), before_fold(folded), is_duplicate=True)
    newer = [rival for rival in rivals if not is_newer(draft, rival.memory)]
    if newer:
        return _too_late(draft, max(newer, key=lambda r: r.memory.create_time), now)
    same = next((memory for memory in live if _is_duplicate(draft, memory, now)), None)
    stored = _fold(draft, same, now) if same else replace(draft, state=State.ACTIVE)
    given_way = tuple(
        Superseded(_superseded(rival.memory, stored, now), told_as(stored), rival.reason)
        for rival in rivals
        if rival.memory in live and rival.memory is not same
    )
    writes = (stored, *(item.memory for item in given_way))
    superseded = (*before_fold(stored), *given_way) if same else given_way
    return Outcome(stored, writes, superseded, is_duplicate=same is not None)


def before_fold(memory: Memory) -> tuple[Superseded, ...]:
    """The lesson that a folded memory carried before."""
    if not memory.previous_lesson or memory.previous_lesson == memory.lesson:
        return ()
    previous = replace(
        memory, lesson=memory.previous_lesson, feedback_event=memory.previous_feedback_event
    )
    return (Superseded(previous, told_as(memory), SAME_ANSWER),)


def told_as(memory: Memory) -> str:
    """How the place of a superseded lesson names this memory."""
    return memory.lesson or memory.name


def _was_folded(draft: Memory, memory: Memory) -> bool:
    is_same_event = bool(draft.feedback_event) and memory.feedback_event == draft.feedback_event
    return is_same_event or (bool(draft.request_id) and memory.request_id == draft.request_id)


def _too_late(draft: Memory, newer: Rival, now: datetime) -> Outcome:
    # Kept for audit. Behind a tombstone too: what was deleted does not come back in older words.
    late = _superseded(draft, newer.memory, now)
    return Outcome(late, (late,), (Superseded(late, told_as(newer.memory), newer.reason),))


def _is_duplicate(draft: Memory, memory: Memory, now: datetime) -> bool:
    return (
        memory.supersession_key == draft.supersession_key
        and memory.type is draft.type
        and memory.state_at(now) in LIVE_STATES
        and memory.expire_time == draft.expire_time
        # To the letter: a correction of case or of a sign in a line of code is a correction.
        and memory.text.strip() == draft.text.strip()
    )


def _fold(draft: Memory, into: Memory, now: datetime) -> Memory:
    """The stored one stands for the newer lesson, and is recalled again if it was retired: whoever
    repeats a correction was answered wrong again."""
    folded = replace(
        into,
        duplicate_count=into.duplicate_count + 1,
        sequence=max(draft.sequence, into.sequence),
        request_id=draft.request_id or into.request_id,
        update_time=now,
    )
    if not draft.lesson:
        return folded
    return replace(
        folded,
        state=State.ACTIVE,
        retired_by_revision="",
        lesson=draft.lesson,
        feedback_event=draft.feedback_event,
        generation=draft.generation,
        previous_lesson=into.lesson,
        previous_feedback_event=into.feedback_event,
    )


def _superseded(memory: Memory, by: Memory, now: datetime) -> Memory:
    return replace(memory, state=State.SUPERSEDED, superseded_by=by.name, update_time=now)
