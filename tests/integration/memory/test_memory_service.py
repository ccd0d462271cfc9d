"""MemoryService over gRPC on the real Milvus Lite server."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from selm.api.memory.v1 import memory_pb2, search_pb2
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.errors import InvalidFields, SelmError, from_rpc_error

IN_SCOPE = search_pb2.ScopeDecision.VERDICT_IN_SCOPE
REASON = search_pb2.ScopeDecision
STATE = memory_pb2.Memory
SHARED = memory_pb2.VISIBILITY_SHARED
CAPITAL = "What is the capital of Velmora?"


async def test_a_created_memory_is_found_by_its_key_at_once(memory: Any) -> None:
    """Read your writes: the search after CreateMemory finds it, whatever case and punctuation."""
    created = await memory.create(CAPITAL, "Tashkeri")

    for query in (CAPITAL, "what is the capital of velmora", "  What is the capital of VELMORA ?!"):
        (hit,) = (await memory.search(query)).hits
        assert (hit.scope.verdict, hit.scope.reason) == (IN_SCOPE, REASON.REASON_EXACT_KEY)
        assert (created.memory.name, "Tashkeri") == (hit.memory.name, hit.memory.text)
    assert created.memory.embedding_model.startswith("all-MiniLM-L6-v2@")


async def test_the_gate_lets_paraphrases_in_and_other_questions_out(memory: Any) -> None:
    """A paraphrase is in scope, another entity and another relation are not."""
    await memory.create(CAPITAL, "Tashkeri")

    decisions = {
        query: (await memory.search(query)).hits[0].scope
        for query in (
            "Which city is Velmora's capital?",
            "What is the capital of Brindoria?",
            "What is the population of Velmora?",
        )
    }

    paraphrase, entity, relation = decisions.values()
    assert (paraphrase.verdict, paraphrase.reason) == (IN_SCOPE, REASON.REASON_SIMILAR)
    assert entity.verdict != IN_SCOPE
    assert list(entity.missing_words) == ["velmora"]
    assert (
        relation.verdict,
        relation.reason,
    ) == (REASON.VERDICT_OUT_OF_SCOPE, REASON.REASON_BELOW_THRESHOLD)


async def test_a_newer_answer_supersedes_the_older(memory: Any) -> None:
    """One live memory per key: the older stays readable as SUPERSEDED and is never recalled."""
    old = await memory.create(CAPITAL, "Tashkeri")
    new = await memory.create("what is the capital of Velmora", "Oltina")

    hits = (await memory.search(CAPITAL)).hits
    stored = await _get(memory, old.memory.name)

    assert old.memory.name == new.superseded_memory
    assert [hit.memory.text for hit in hits] == ["Oltina"]
    assert (STATE.STATE_SUPERSEDED, new.memory.name) == (stored.state, stored.superseded_by)


async def test_a_differently_worded_correction_of_the_same_supersedes(memory: Any) -> None:
    """Same entity words and nearly the same question: only the newer answer lives."""
    await memory.create("What is the highest mountain in Castavia?", "Mount Orrin")
    new = await memory.create("What is the tallest mountain in Castavia?", "Mount Ulm")
    await memory.create("What is the longest river in Castavia?", "the Ymber")

    (hit,) = await _in_scope(memory, "What is the highest mountain in Castavia?")

    assert new.superseded_memory
    assert hit.memory.text == "Mount Ulm"
    assert len((await _list(memory)).memories) == 2


async def test_an_exact_duplicate_is_counted_not_stored(memory: Any) -> None:
    """The same question and answer again returns the first memory."""
    first = await memory.create(CAPITAL, "Tashkeri")
    again = await memory.create("What is the capital of velmora?", "Tashkeri")

    assert again.duplicate
    assert (first.memory.name, 1) == (again.memory.name, again.memory.duplicate_count)
    assert len((await _list(memory)).memories) == 1


async def test_a_repeated_request_changes_nothing(memory: Any) -> None:
    """The same request_id answers the same memory; with other content it is refused."""
    request_id = str(uuid.uuid4())
    first = await memory.create(CAPITAL, "Tashkeri", request_id=request_id)
    again = await memory.create(CAPITAL, "Tashkeri", request_id=request_id)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await memory.create(CAPITAL, "Oltina", request_id=request_id)

    assert first.memory.name == again.memory.name
    assert again.memory.duplicate_count == 0
    assert from_rpc_error(refused.value).reason == "REQUEST_ID_REUSED"


async def test_a_repeated_request_that_was_folded_is_counted_once(memory: Any) -> None:
    """Retries of a duplicate do not count again."""
    await memory.create(CAPITAL, "Tashkeri")
    request_id = str(uuid.uuid4())
    counts = [
        (await memory.create(CAPITAL, "Tashkeri", request_id=request_id)).memory.duplicate_count
        for _ in range(3)
    ]

    assert counts == [1, 1, 1]


async def test_another_tenant_sees_nothing(memory: Any) -> None:
    """Not by search, not by name, not by deleting: a foreign name answers as an absent one."""
    created = await memory.create(CAPITAL, "Tashkeri", visibility=SHARED)

    found = await memory.search(CAPITAL, tenant="other")
    reasons = []
    for ask in (
        memory.stub.GetMemory(pb.GetMemoryRequest(name=created.memory.name), metadata=_OTHER),
        memory.stub.DeleteMemory(pb.DeleteMemoryRequest(name=created.memory.name), metadata=_OTHER),
    ):
        reasons.append(await _reason(ask))

    assert (list(found.hits), found.empty_reason) == ([], search_pb2.EMPTY_REASON_NOTHING_STORED)
    assert reasons == ["RESOURCE_NOT_FOUND"] * 2
    assert len((await memory.search(CAPITAL)).hits) == 1


async def test_private_memories_stay_with_their_owner_and_shared_ones_do_not(memory: Any) -> None:
    """Another user of the tenant recalls SHARED ones only, and may leave those out."""
    await memory.create(CAPITAL, "Tashkeri")
    await memory.create("What is the currency of Brindoria?", "the drell", visibility=SHARED)

    private = await memory.search(CAPITAL, parent="users/bo")
    shared = await memory.search("What is the currency of Brindoria?", parent="users/bo")
    left_out = await memory.search(
        "What is the currency of Brindoria?",
        parent="users/bo",
        filter=search_pb2.MemoryFilter(exclude_shared=True),
    )

    assert "Tashkeri" not in [hit.memory.text for hit in private.hits]
    assert shared.hits[0].memory.text == "the drell"
    assert left_out.empty_reason == search_pb2.EMPTY_REASON_FILTERED_OUT


async def test_users_who_disagree_are_ambiguous_to_a_third_and_not_to_themselves(
    memory: Any,
) -> None:
    """Equally close and different: abstain, but one's own memory goes before a shared one."""
    await memory.create(CAPITAL, "Tashkeri", parent="users/ann", visibility=SHARED)
    await memory.create(CAPITAL, "Oltina", parent="users/bob", visibility=SHARED)

    third = (await memory.search(CAPITAL, parent="users/cy")).hits
    own = (await memory.search(CAPITAL, parent="users/ann")).hits

    assert [hit.scope.reason for hit in third] == [REASON.REASON_AMBIGUOUS] * 2
    assert (own[0].scope.verdict, own[0].memory.text) == (IN_SCOPE, "Tashkeri")
    assert own[1].scope.verdict == REASON.VERDICT_ABSTAIN


async def test_a_deleted_memory_is_never_returned_again(memory: Any) -> None:
    """Delete is strong and repeatable, and the one it had superseded does not come back."""
    await memory.create(CAPITAL, "Tashkeri")
    created = await memory.create(CAPITAL, "Oltina")
    request = pb.DeleteMemoryRequest(name=created.memory.name)
    await memory.stub.DeleteMemory(request, metadata=memory.metadata)
    await memory.stub.DeleteMemory(request, metadata=memory.metadata)

    found = await memory.search(CAPITAL)
    reason = await _reason(
        memory.stub.GetMemory(
            pb.GetMemoryRequest(name=created.memory.name), metadata=memory.metadata
        )
    )

    assert list(found.hits) == []
    assert reason == "RESOURCE_NOT_FOUND"
    assert list((await _list(memory)).memories) == []


async def test_an_expired_memory_is_listed_as_expired_and_not_recalled(memory: Any) -> None:
    """From expire_time on it is out of every search."""
    soon = datetime.now(UTC) + timedelta(milliseconds=700)
    fact = {"type": memory_pb2.MEMORY_TYPE_CONTEXT, "expire_time": soon}
    await memory.create("", "The lift is out of order.", **fact)
    before = await memory.search("Is the lift working?")
    while datetime.now(UTC) < soon:
        await memory.search("Is the lift working?")

    after = await memory.search("Is the lift working?")
    listed = await _list(memory, states=[STATE.STATE_EXPIRED])

    assert [before.hits[0].scope.reason, list(after.hits)] == [REASON.REASON_NOT_GATED, []]
    assert [m.state for m in listed.memories] == [STATE.STATE_EXPIRED]
    assert list((await _list(memory)).memories) == []


async def test_a_conversation_keeps_its_memories(memory: Any) -> None:
    """A bound memory is recalled in its conversation only; unbound ones everywhere."""
    await memory.create(CAPITAL, "Tashkeri", conversation="conversations/one")

    outside = await memory.search(CAPITAL)
    inside = await memory.search(
        CAPITAL, filter=search_pb2.MemoryFilter(conversation="conversations/one")
    )

    assert outside.empty_reason == search_pb2.EMPTY_REASON_FILTERED_OUT
    assert inside.hits[0].memory.text == "Tashkeri"


async def test_pages_list_every_memory_once_newest_first(memory: Any) -> None:
    """The token continues the same query and fits no other."""
    for number in range(5):
        await memory.create(f"What is the code of locker {number}?", f"code {number}")
    seen, token = [], ""
    while True:
        page = await _list(memory, page_size=2, page_token=token)
        seen += [m.text for m in page.memories]
        token = page.next_page_token
        if not token:
            break
        last_token = token

    reason = await _reason(
        memory.stub.ListMemories(
            pb.ListMemoriesRequest(parent="users/bo", page_token=last_token),
            metadata=memory.metadata,
        )
    )

    assert [f"code {number}" for number in reversed(range(5))] == seen
    assert reason == "CURSOR_INVALID"


async def test_every_violation_is_named(memory: Any) -> None:
    """One answer lists all fields that break their bounds."""
    bad = memory_pb2.Memory(
        type=memory_pb2.MEMORY_TYPE_CORRECTION, text="\x00", labels={"Bad": "x"}, conversation="c"
    )
    request = pb.CreateMemoryRequest(parent="user", memory=bad, request_id="1")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await memory.stub.CreateMemory(request, metadata=memory.metadata)

    error = from_rpc_error(refused.value)

    assert isinstance(error, InvalidFields)
    assert {
        "parent",
        "memory.text",
        "memory.question",
        "memory.labels[Bad]",
        "memory.conversation",
        "request_id",
    } == {violation.field for violation in error.violations}


async def test_text_of_any_kind_comes_back_as_it_went_in(memory: Any) -> None:
    """Quotes, backslashes, braces and what looks like a filter stay plain text."""
    texts = ('a"b', "a\\b", "a'b", "多言語", "{x}", '" or tenant != "', "line\nbreak")
    for number, text in enumerate(texts):
        question = f"What is written on sign {number}, {text}?"
        created = await memory.create(question, text)
        stored = await _get(memory, created.memory.name)
        (hit,) = (await memory.search(question, max_results=1)).hits

        assert (text, text) == (stored.text, hit.memory.text)


async def test_an_altered_consistency_token_is_refused(memory: Any) -> None:
    """It is an error of the caller, not something to wait for."""
    assert await _reason(memory.search(CAPITAL, consistency_token="nonsense")) == "CURSOR_INVALID"


_OTHER = (("x-selm-tenant", "other"),)


async def _reason(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        found: SelmError = from_rpc_error(error)
        return found.reason
    return ""


async def _get(memory: Any, name: str) -> memory_pb2.Memory:
    request = pb.GetMemoryRequest(name=name)
    return (await memory.stub.GetMemory(request, metadata=memory.metadata)).memory


async def _list(
    memory: Any, states: Any = (), page_size: int = 0, page_token: str = ""
) -> pb.ListMemoriesResponse:
    request = pb.ListMemoriesRequest(
        parent="users/anonymous",
        page_size=page_size,
        page_token=page_token,
        filter=search_pb2.MemoryFilter(states=states),
    )
    return await memory.stub.ListMemories(request, metadata=memory.metadata)


async def _in_scope(memory: Any, query: str) -> list[search_pb2.MemoryHit]:
    hits = (await memory.search(query)).hits
    return [hit for hit in hits if hit.scope.verdict == IN_SCOPE]
