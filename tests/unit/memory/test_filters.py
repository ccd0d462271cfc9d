"""Typed conditions as Milvus expressions: no text of a caller changes what they mean."""

import json
import re
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_svc.core import LIVE_STATES, Condition, MemoryType, State
from memory_svc.store.filters import expression, literal, microseconds

NOW = datetime(2031, 5, 6, 7, 8, 9, 123456, UTC)
HOSTILE = [
    '" or tenant != "',
    "' or 1 == 1 or '",
    "\\",
    '\\" or true or "',
    'x" and state in [1,2,3,4,5] and "" == "',
    "a\nb",
    "{x}",
    "%",
    "多",
    "\u2028",
    "\x00",
    '"] or tenant in ["b',
]
TEXTS = st.one_of(st.text(), st.sampled_from(HOSTILE))
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _skeleton(text: str) -> str:
    """An expression with every string literal replaced by a mark."""
    return _STRING.sub("S", text)


@given(TEXTS)
def test_a_literal_is_one_string_that_reads_back(value: str) -> None:
    """JSON escapes hold whatever a caller sends."""
    assert value == json.loads(literal(value))
    assert _skeleton(literal(value)) == "S"


@given(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)
def test_no_value_changes_the_shape_of_an_expression(
    tenant: str, user: str, subject_key: str, lesson: str, conversation: str
) -> None:
    """Hostile values stay inside their quotes; the terms are those of harmless values."""

    def shape(*values: str) -> str:
        names = ("tenant", "user", "subject_key", "lesson", "conversation")
        condition = Condition(
            **dict(zip(names, values, strict=True)),
            with_shared=True,
            states=LIVE_STATES,
            at=NOW,
        )
        return _skeleton(expression(condition))

    # An empty key or lesson asks for nothing and leaves its term out.
    values = (tenant, user, subject_key or "k", lesson or "l", conversation)

    assert shape("t", "u", "k", "l", "c") == shape(*values)


def test_the_tenant_is_always_the_first_term() -> None:
    """There is no condition without one."""
    assert expression(Condition("t")) == 'tenant == "t"'
    assert fields(Condition)[0].name == "tenant"


def test_shared_memories_widen_the_owner_and_never_the_tenant() -> None:
    """Own or shared stands in brackets behind the tenant."""
    text = expression(Condition("t", user="users/a", with_shared=True))

    assert text == 'tenant == "t" and (user == "users/a" or visibility == 2)'


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((State.SUPERSEDED,), "(state in [2])"),
        ((State.ACTIVE,), "((state in [1] and (expire_time == 0 or expire_time > N)))"),
        ((State.EXPIRED,), "((state in [1, 3] and expire_time > 0 and expire_time <= N))"),
    ],
)
def test_states_are_those_that_a_reader_sees(states: tuple[State, ...], expected: str) -> None:
    """ACTIVE leaves expired ones out; EXPIRED is ACTIVE or RETIRED past its time."""
    text = expression(Condition("t", states=states, at=NOW))

    assert f'tenant == "t" and {expected}' == text.replace(str(microseconds(NOW)), "N")


def test_conditions_are_joined_by_and() -> None:
    """Every condition must hold."""
    condition = Condition(
        "t",
        types=(MemoryType.CORRECTION,),
        conversation="conversations/c",
        start_create_time=NOW,
        end_create_time=NOW,
    )
    expected = [
        'tenant == "t"',
        "type in [1]",
        'conversation in ["", "conversations/c"]',
        f"create_time >= {microseconds(NOW)}",
        f"create_time < {microseconds(NOW)}",
    ]

    assert expected == expression(condition).split(" and ")
