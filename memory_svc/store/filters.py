"""A typed Condition as a Milvus expression. Values are JSON literals, names come from this file.

Milvus Lite knows no filter templates; a JSON literal is safe on it and on Milvus alike, so no text
of a caller can change what an expression means.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import IntEnum

from memory_svc.core import LIVE_STATES, Condition, State, Visibility

# Expiry of what never expires.
NEVER = 0


def expression(condition: Condition) -> str:
    """All conditions, the tenant first."""
    return " and ".join(_terms(condition))


def literal(value: str | int | Sequence[str] | Sequence[int]) -> str:
    """A value inside an expression."""
    return json.dumps(value, ensure_ascii=False)


def microseconds(time: datetime) -> int:
    """A time as stored."""
    return round(time.timestamp() * 1_000_000)


def _terms(condition: Condition) -> Iterator[str]:
    yield f"tenant == {literal(condition.tenant)}"
    yield from _owner_terms(condition)
    for field in (
        "subject_key",
        "supersession_key",
        "question_key",
        "entity_key",
        "lesson",
        "superseded_by",
        "embedding_model",
    ):
        value = getattr(condition, field)
        if value:
            yield f"{field} == {literal(value)}"
    if condition.states:
        yield _state_term(condition.states, condition.at)
    if condition.types:
        yield f"type in {_numbers(condition.types)}"
    if condition.conversation is not None:
        yield f"conversation in {literal(['', condition.conversation])}"
    yield from _time_terms(condition)


def _owner_terms(condition: Condition) -> Iterator[str]:
    if condition.user is None:
        return
    own = f"user == {literal(condition.user)}"
    shared = f"visibility == {int(Visibility.SHARED)}"
    yield f"({own} or {shared})" if condition.with_shared else own


def _time_terms(condition: Condition) -> Iterator[str]:
    if condition.start_create_time is not None:
        yield f"create_time >= {microseconds(condition.start_create_time)}"
    if condition.end_create_time is not None:
        yield f"create_time < {microseconds(condition.end_create_time)}"


def _state_term(states: Sequence[State], at: datetime | None) -> str:
    if at is None:
        return f"state in {_numbers(states)}"
    now = microseconds(at)
    live = [state for state in states if state in LIVE_STATES]
    final = [state for state in states if state not in (*LIVE_STATES, State.EXPIRED)]
    terms = []
    if live:
        terms.append(
            f"(state in {_numbers(live)} and (expire_time == {NEVER} or expire_time > {now}))"
        )
    if State.EXPIRED in states:
        is_over = f"expire_time > {NEVER} and expire_time <= {now}"
        terms.append(f"(state in {_numbers(LIVE_STATES)} and {is_over})")
    if final:
        terms.append(f"state in {_numbers(final)}")
    return f"({' or '.join(terms)})"


def _numbers(values: Sequence[IntEnum]) -> str:
    return literal([int(value) for value in values])
