"""What a memory becomes when its event shall reach further, or less far. Pure; knows no store."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from memory_svc.core import LIVE_STATES, ChangeKind, Memory, State, Visibility, is_newer, with_keys
from memory_svc.verbs import history
from memory_svc.verbs.supersession import Outcome, Rival, Superseded, give_way, told_as

# Decisions on one event that may overtake each other on the way here.
_MAX_OVERTAKING = 64


def is_known(memory: Memory, draft: Memory, num_decisions: int) -> bool:
    """Whether the memory has followed this decision on its event, or a later one."""
    marks = set(history.requests_of(memory))
    later = range(num_decisions, num_decisions + _MAX_OVERTAKING)
    return any(_mark(draft, number) in marks for number in later)


def moved(memory: Memory, draft: Memory) -> Memory:
    """The memory where the draft of its event now belongs; the same one if it is there."""
    if memory.visibility is draft.visibility:
        return memory
    return with_keys(replace(memory, visibility=draft.visibility))


def settle(
    memory: Memory,
    there: Memory,
    rivals: Sequence[Rival],
    draft: Memory,
    num_decisions: int,
    now: datetime,
) -> Outcome:
    """Newest wins where it comes to: older ones give way to it, and it to a newer one."""
    marks = [_mark(draft, num_decisions)]
    in_place = [rival for rival in rivals if rival.can_give_way]
    newer = [rival for rival in in_place if not is_newer(there, rival.memory)]
    if newer:
        return _too_late(memory, there, max(newer, key=_place), marks, now)
    losers = [rival for rival in in_place if rival.is_live]
    marks += [mark for rival in losers for mark in history.requests_of(rival.memory)]
    stored = history.changed(memory, there, ChangeKind.UPDATED, now, history.SERVICE, marks)
    given_way = tuple(give_way(rival, stored, now, history.SERVICE) for rival in losers)
    return Outcome(stored, (stored, *(item.memory for item in given_way)), given_way)


def _too_late(
    memory: Memory, there: Memory, newer: Rival, marks: list[str], now: datetime
) -> Outcome:
    if newer.memory.state not in LIVE_STATES and there.visibility is Visibility.SHARED:
        # What was deleted there does not come back in older words; with its user it may stay. The
        # other way it may not: what is no longer shared must not be read by others.
        return Outcome(memory)
    loser = replace(
        there, state=State.SUPERSEDED, superseded_by=newer.memory.name, live_end_time=now
    )
    late = history.changed(memory, loser, ChangeKind.SUPERSEDED, now, history.SERVICE, marks)
    return Outcome(late, (late,), (Superseded(late, told_as(newer.memory), newer.reason),))


def _mark(draft: Memory, num_decisions: int) -> str:
    return history.mark_of(f"decisions on {draft.feedback_event}", str(num_decisions))


def _place(rival: Rival) -> tuple[int, datetime]:
    return rival.memory.sequence, rival.memory.create_time
