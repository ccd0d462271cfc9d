"""Requests of memory: every violation is named, and what passes means what was said."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from memory_svc.core import State, Visibility
from memory_svc.verbs.edits import Edit
from memory_svc.wire import create as wire_create
from memory_svc.wire import lists as wire
from memory_svc.wire import search as wire_search
from memory_svc.wire import update as wire_update
from selm import consistency
from selm.api.memory.v1 import memory_pb2
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.api.memory.v1.search_pb2 import MemoryFilter
from selm.auth import Principal, development_principal
from selm.errors import InvalidFields, SelmError

NOW = datetime(2031, 1, 1, tzinfo=UTC)
PRINCIPAL = development_principal("t")
CORRECTION = memory_pb2.MEMORY_TYPE_CORRECTION


def create(**fields: Any) -> pb.CreateMemoryRequest:
    memory = {"type": CORRECTION, "text": "a", "question": "q"} | fields.pop("memory", {})
    given_fields = {"parent": "users/a"} | fields
    return pb.CreateMemoryRequest(memory=memory_pb2.Memory(**memory), **given_fields)


def violations(parse: Any, request: Any) -> set[str]:
    with pytest.raises(InvalidFields) as refused:
        parse(request, PRINCIPAL, NOW)
    return {violation.field for violation in refused.value.violations}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"parent": ""}, {"parent"}),
        ({"parent": "users/a/b"}, {"parent"}),
        ({"parent": "users/-"}, {"parent"}),
        ({"memory": {"type": 0}}, {"memory.type[0]"}),
        ({"memory": {"type": 99}}, {"memory.type[0]"}),
        ({"memory": {"text": " \n"}}, {"memory.text"}),
        ({"memory": {"text": "x" * 8193}}, {"memory.text"}),
        ({"memory": {"text": "bell\x07"}}, {"memory.text"}),
        ({"memory": {"question": ""}}, {"memory.question"}),
        ({"memory": {"question": "é" * 2049}}, {"memory.question"}),
        ({"memory": {"subject_key": "k" * 257}}, {"memory.subject_key"}),
        ({"memory": {"visibility": 9}}, {"memory.visibility"}),
        ({"memory": {"conversation": "talk"}}, {"memory.conversation"}),
        ({"memory": {"generation": "g"}}, {"memory.generation"}),
        ({"memory": {"labels": {"K": "v"}}}, {"memory.labels[K]"}),
        ({"memory": {"labels": {f"k{n}": "" for n in range(65)}}}, {"memory.labels"}),
        ({"memory": {"expire_time": NOW}}, {"memory.expire_time"}),
        ({"ttl": Duration(seconds=0)}, {"ttl"}),
        ({"ttl": Duration(seconds=-1)}, {"ttl"}),
        ({"ttl": Duration(seconds=10**12)}, {"ttl"}),
        ({"ttl": Duration(seconds=1), "memory": {"expire_time": NOW + timedelta(1)}}, {"ttl"}),
        ({"request_id": "not-a-uuid"}, {"request_id"}),
        ({"request_id": "-" * 600 + "0b9c8a51-6a0f-4d0e-9f57-0d9d3f3b8f10"}, {"request_id"}),
        (
            {"parent": "", "memory": {"text": "", "question": ""}},
            {
                "parent",
                "memory.text",
                "memory.question",
            },
        ),
    ],
)
def test_a_create_names_every_field_out_of_bounds(fields: Any, expected: set[str]) -> None:
    """All of them in one answer."""
    assert expected == violations(wire_create.parse_create, create(**fields))


def test_defaults_of_a_create() -> None:
    """PRIVATE, active, never expiring, of this tenant and author."""
    memory = wire_create.parse_create(create(), PRINCIPAL, NOW)

    assert (memory.tenant, memory.user, memory.author) == ("t", "users/a", "anonymous")
    assert (
        memory.visibility,
        memory.state,
        memory.expire_time,
    ) == (Visibility.PRIVATE, State.ACTIVE, None)


def test_a_ttl_becomes_an_expire_time() -> None:
    """From now."""
    memory = wire_create.parse_create(create(ttl=Duration(seconds=90)), PRINCIPAL, NOW)

    assert NOW + timedelta(seconds=90) == memory.expire_time


def test_a_request_id_fixes_the_memory_id_per_owner() -> None:
    """A retry names the same memory; another owner's does not."""
    request_id = "0b9c8a51-6a0f-4d0e-9f57-0d9d3f3b8f10"
    ids = [
        wire_create.parse_create(
            create(request_id=request_id, parent=parent), PRINCIPAL, NOW
        ).memory_id
        for parent in ("users/a", "users/a", "users/b")
    ]

    assert ids[0] == ids[1] != ids[2]


def test_the_importance_of_a_create_is_a_half_unless_it_says_more() -> None:
    """A plain number on the wire: 0 is unset."""
    made = [
        wire_create.parse_create(create(memory={"importance": value}), PRINCIPAL, NOW).importance
        for value in (0.0, 0.25, 1.0)
    ]

    assert made == [0.5, 0.25, 1.0]


def test_ids_of_a_batch_are_of_its_request_id_and_place() -> None:
    """So that a repeat finds each of them; without one they are new."""
    request = pb.BatchCreateMemoriesRequest(
        parent="users/a",
        requests=[create(parent=""), create()],
        request_id="0b9c8a51-6a0f-4d0e-9f57-0d9d3f3b8f10",
    )
    first, again = (
        [draft.memory_id for draft in wire_create.parse_batch(request, PRINCIPAL, NOW)]
        for _ in range(2)
    )
    request.request_id = ""
    new = [draft.memory_id for draft in wire_create.parse_batch(request, PRINCIPAL, NOW)]

    assert first == again
    assert len({*first, *new}) == 4


def test_an_update_takes_what_its_mask_names() -> None:
    """Without one what is filled in; immutable fields are only compared."""
    memory = memory_pb2.Memory(
        name="users/a/memories/m", type=CORRECTION, text="b", question="q", importance=0.3
    )
    masked = pb.UpdateMemoryRequest(memory=memory)
    masked.update_mask.paths.extend(["labels", "text", "text"])
    plain, chosen = (
        _parse_update(request, PRINCIPAL, NOW)
        for request in (pb.UpdateMemoryRequest(memory=memory), masked)
    )

    assert plain.fields == {"text": "b", "importance": 0.3}
    assert plain.unchanged == {"type": CORRECTION, "question": "q"}
    assert (chosen.fields, chosen.unchanged) == ({"text": "b", "labels": {}}, {})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"query": ""}, {"query"}),
        ({"query": "x" * 8193}, {"query"}),
        ({"max_results": -1}, {"max_results"}),
        ({"max_results": 101}, {"max_results"}),
        ({"min_score": float("nan")}, {"min_score"}),
        ({"min_score": 1.1}, {"min_score"}),
        ({"filter": MemoryFilter(types=[0, 9])}, {"filter.types[0]", "filter.types[1]"}),
        ({"filter": MemoryFilter(states=[2])}, {"filter.states[0]"}),
        ({"filter": MemoryFilter(conversation="c")}, {"filter.conversation"}),
        (
            {"filter": MemoryFilter(start_create_time=NOW, end_create_time=NOW)},
            {"filter.end_create_time"},
        ),
    ],
)
def test_a_search_names_every_field_out_of_bounds(fields: Any, expected: set[str]) -> None:
    """All of them in one answer."""
    request = pb.SearchMemoriesRequest(**{"parent": "users/a", "query": "q"} | fields)

    assert expected == violations(wire_search.parse_search, request)


def test_a_search_looks_at_own_and_shared_active_memories() -> None:
    """Unless the filter says otherwise; the token is the event it must see."""
    request = pb.SearchMemoriesRequest(
        parent="users/a", query="q", consistency_token=consistency.encode("FEEDBACK", 12)
    )
    search = wire_search.parse_search(request, PRINCIPAL, NOW)
    condition = search.query.condition

    assert (condition.tenant, condition.user, condition.with_shared) == ("t", "users/a", True)
    assert (
        condition.states,
        condition.conversation,
        search.query.max_results,
        search.wanted_sequence,
    ) == ((State.ACTIVE,), "", 5, 12)


def test_a_page_token_fits_its_query_only() -> None:
    """Another filter, owner or tenant makes it invalid."""
    request = pb.ListMemoriesRequest(parent="users/a", page_size=1000)
    page = wire.parse_list(request, PRINCIPAL, NOW)
    memory = wire_create.parse_create(create(), PRINCIPAL, NOW)
    request.page_token = page.token_after(memory)

    again = wire.parse_list(request, PRINCIPAL, NOW)
    assert (500, (NOW, memory.memory_id)) == (page.size, again.before)
    for change in (
        {"filter": MemoryFilter(types=[CORRECTION])},
        {"parent": "users/b"},
    ):
        other = pb.ListMemoriesRequest(parent="users/a", page_token=request.page_token)
        other.MergeFrom(pb.ListMemoriesRequest(**change))
        with pytest.raises(SelmError, match="page token"):
            wire.parse_list(other, PRINCIPAL, NOW)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused_in_words(raw: bytes) -> None:
    """A request either passes or raises SelmError, never anything else."""
    for message, parse in (
        (pb.CreateMemoryRequest(), wire_create.parse_create),
        (pb.SearchMemoriesRequest(), wire_search.parse_search),
        (pb.ListMemoriesRequest(), wire.parse_list),
        (pb.BatchCreateMemoriesRequest(), wire_create.parse_batch),
        (pb.UpdateMemoryRequest(), _parse_update),
        (pb.ListMemoryHistoryRequest(), _parse_history),
    ):
        try:
            message.ParseFromString(raw)
        except Exception:
            continue
        try:
            parse(message, PRINCIPAL, NOW)
        except SelmError as error:
            assert error.reason in ("INVALID_FIELD", "CURSOR_INVALID")


def _parse_update(request: pb.UpdateMemoryRequest, principal: Principal, now: datetime) -> Edit:
    return wire_update.parse_update(request, principal, now, may_share=True)


def _parse_history(
    request: pb.ListMemoryHistoryRequest, principal: Principal, now: datetime
) -> wire.HistoryPage:
    return wire.parse_history(request, principal)
