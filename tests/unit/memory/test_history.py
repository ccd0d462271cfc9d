"""A memory's history: every state comes back, within bounds, and nothing of a deleted one."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_svc.core import ChangeKind, Memory, State, Visibility
from memory_svc.verbs import history
from selm.errors import SelmError
from tests.unit.memory.support import START, memory

NOW = START + timedelta(days=1)


def update(before: Memory, **fields: object) -> Memory:
    return history.changed(before, replace(before, **fields), ChangeKind.UPDATED, NOW, "ann")


def test_every_state_comes_back_as_it_was() -> None:
    """Oldest first, each with its own fields, whatever came after."""
    first = history.created(memory(text="one", labels={"a": "1"}), "ann")
    second = update(first, text="two", visibility=Visibility.SHARED, importance=0.9)
    third = update(second, labels={}, expire_time=NOW)
    gone = history.changed(
        third, replace(third, state=State.SUPERSEDED), ChangeKind.SUPERSEDED, NOW, ""
    )

    told = history.entries(gone)

    seen = [(e.memory.text, e.memory.labels, e.memory.importance, e.memory.state) for e in told]
    assert seen == [
        ("one", {"a": "1"}, 0.5, State.ACTIVE),
        ("two", {"a": "1"}, 0.9, State.ACTIVE),
        ("two", {}, 0.9, State.ACTIVE),
        ("two", {}, 0.9, State.SUPERSEDED),
    ]
    assert [e.memory.expire_time for e in told] == [None, None, NOW, NOW]
    assert [e.change.principal for e in told] == ["ann", "ann", "ann", "memory_svc"]
    assert told[1].memory.visibility is Visibility.SHARED
    assert isinstance(told[0].memory.visibility, Visibility)


def test_times_grow_within_one_microsecond() -> None:
    """So that two states never share an etag."""
    states = [history.created(memory(), "ann")]
    for number in range(3):
        states.append(update(states[-1], text=f"text {number}"))

    times = [e.change.time for e in history.entries(states[-1])]
    assert times == sorted(set(times))
    assert len({m.etag for m in states}) == 4


def test_a_row_from_before_there_was_history_has_one() -> None:
    """It begins with its creation."""
    old = memory(author="ann")

    (entry,) = history.entries(old)
    assert (entry.change.kind, entry.change.principal) == (ChangeKind.CREATED, "ann")
    assert [e.memory.text for e in history.entries(update(old, text="new"))] == [old.text, "new"]


def test_the_history_of_a_deleted_memory_says_nothing_of_what_was_said() -> None:
    """Neither a reader nor the stored row finds a text, a key or a label."""
    secret = history.created(
        memory(question="", text="secret one", labels={"secret": "x"}, type=2), "ann"
    )
    secret = update(secret, text="secret two", labels={})
    dead = history.changed(secret, secret.tombstone(NOW), ChangeKind.DELETED, NOW, "bob")

    told = history.entries(dead)
    assert "secret" not in repr(dead.changes) + repr([e.memory for e in told])
    assert [e.change.kind.name for e in told] == ["CREATED", "UPDATED", "DELETED"]
    assert [e.memory.state for e in told] == [State.ACTIVE, State.ACTIVE, State.DELETED]


def test_a_tombstone_laid_by_another_replica_ends_the_history_too() -> None:
    """Its row is DELETED; the entry is told though nobody wrote it."""
    buried = update(history.created(memory(), "ann"), text="secret").tombstone(NOW)

    told = history.entries(buried)
    assert [e.change.kind.name for e in told] == ["CREATED", "UPDATED", "DELETED"]
    assert "secret" not in repr(buried.changes)


def test_many_duplicates_are_one_entry() -> None:
    """With the last time, and all requests known."""
    folded = history.created(memory(), "ann")
    marks = [history.mark_of(f"request {number}", "x") for number in range(10)]
    for count, mark in enumerate(marks, start=1):
        folded = history.changed(
            folded,
            replace(folded, duplicate_count=count),
            ChangeKind.DUPLICATE_FOLDED,
            NOW + timedelta(minutes=count),
            "ann",
            [mark],
        )

    told = history.entries(folded)
    assert [(e.change.kind.name, e.memory.duplicate_count) for e in told] == [
        ("CREATED", 0),
        ("DUPLICATE_FOLDED", 10),
    ]
    assert told[-1].change.time == NOW + timedelta(minutes=10)
    assert history.requests_of(folded) == marks


def test_a_request_is_known_by_its_id_and_what_it_said() -> None:
    """The same id with other content is an error of the caller."""
    mark = history.mark_of("id", "one")
    known = history.created(memory(), "ann", [mark])

    assert history.knows(known, mark)
    assert not history.knows(known, history.mark_of("other", "one"))
    assert not history.knows(known, "")
    with pytest.raises(SelmError) as refused:
        history.knows(known, history.mark_of("id", "two"), "id")
    assert refused.value.reason == "REQUEST_ID_REUSED"


def test_the_oldest_requests_are_forgotten_first() -> None:
    """A bounded number stays."""
    known = history.created(memory(), "ann")
    for number in range(history.MAX_REQUESTS + 40):
        known = history.changed(
            known,
            known,
            ChangeKind.DUPLICATE_FOLDED if number % 3 else ChangeKind.UPDATED,
            NOW,
            "ann",
            [history.mark_of(str(number))],
        )

    kept = history.requests_of(known)
    last = history.MAX_REQUESTS + 40
    assert kept == [history.mark_of(str(n)) for n in range(40, last)]


@given(st.lists(st.text(max_size=3000), min_size=1, max_size=90))
def test_a_history_is_bounded_and_what_is_left_of_it_is_true(texts: list[str]) -> None:
    """At most 64 entries and 48 KiB; the first and the newest stay, each as it was."""
    state = history.created(memory(text="first"), "ann")
    said = {state.create_time: "first"}
    for text in texts:
        state = update(state, text=text)
        said[state.update_time] = text

    told = history.entries(state)
    stored = json.dumps([dict(change.fields) for change in state.changes])
    assert len(told) <= history.MAX_ENTRIES
    assert len(stored) <= history.MAX_BYTES
    assert (told[0].memory.text, told[-1].memory.text) == ("first", texts[-1])
    assert all(said[e.change.time] == e.memory.text for e in told)


def test_a_first_state_too_big_to_keep_shows_what_it_became() -> None:
    """The row must fit, whatever was written into it."""
    labels = {f"k{number}": "é" * 128 for number in range(64)}
    state = history.created(memory(text="é" * 4096, labels=labels), "ann")
    state = update(state, text="short", labels={})

    told = history.entries(state)
    assert len(json.dumps([dict(change.fields) for change in state.changes])) < history.MAX_BYTES
    assert [e.change.kind.name for e in told] == ["CREATED", "UPDATED"]
    assert told[0].memory.text == "é" * 4096


def test_a_past_time_tells_what_was_said_by_then() -> None:
    """The content of then with the state of now; what was emptied has no past."""
    first = history.created(memory(text="one", importance=0.2), "ann")
    second = update(first, text="two", importance=0.9)
    third = replace(update(second, text="three"), state=State.SUPERSEDED)
    before_all = first.create_time - timedelta(days=1)

    def said(time: datetime | None) -> tuple[str, float]:
        then = history.told_at(third, time)
        assert then.state is State.SUPERSEDED
        return then.text, then.importance

    assert said(first.create_time) == ("one", 0.2)
    assert said(second.update_time) == ("two", 0.9)
    assert said(third.update_time) == said(None) == said(before_all) == ("three", 0.9)
    assert history.told_at(replace(third, state=State.EXPIRED), first.create_time).text == "three"
