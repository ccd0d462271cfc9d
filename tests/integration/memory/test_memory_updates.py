"""UpdateMemory and ListMemoryHistory on real servers."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from selm.api.memory.v1 import memory_pb2, search_pb2
from selm.api.memory.v1 import memory_service_pb2 as pb
from tests.integration.memory.calls import (
    FACT,
    USER,
    delete,
    get,
    history,
    listed,
    refusal,
    update,
    violated,
)

CAPITAL = "What is the capital of Velmora?"
SHARED = memory_pb2.VISIBILITY_SHARED
KINDS = memory_pb2.MemoryChange
STATE = memory_pb2.Memory
ABSENT = f"{USER}/memories/{'0' * 32}"


async def test_every_mutable_field_changes_and_history_shows_each_state(memory: Any) -> None:
    """The etag changes with every write, also within one moment."""
    created = (await memory.create(CAPITAL, "Tashkeri", labels={"a": "1"})).memory
    soon = datetime.now(UTC) + timedelta(days=1)
    values = {
        "text": "Oltina",
        "visibility": SHARED,
        "importance": 0.75,
        "valid_start_time": soon - timedelta(days=2),
        "valid_end_time": soon,
        "expire_time": soon,
        "labels": {"b": "2"},
    }
    states = [created]
    for name, value in values.items():
        answered = await update(memory, created.name, [name], **{name: value})
        states.append(answered.memory)
        assert answered.consistency_token

    told = (await history(memory, created.name)).changes
    assert await get(memory, created.name) == states[-1]
    assert [c.kind for c in told] == [KINDS.KIND_CREATED, *[KINDS.KIND_UPDATED] * 7]
    assert [_without_upkeep(c.memory) for c in told] == [_without_upkeep(s) for s in states]
    assert [c.principal for c in told] == ["anonymous"] * 8
    assert len({state.etag for state in states}) == 8
    assert (states[-1].text, dict(states[-1].labels)) == ("Oltina", {"b": "2"})


async def test_without_a_mask_what_is_filled_in_changes(memory: Any) -> None:
    """A memory that was read may be sent back with one field changed."""
    created = (await memory.create(CAPITAL, "Tashkeri", labels={"a": "1"})).memory
    wanted = memory_pb2.Memory()
    wanted.CopyFrom(created)
    wanted.text = "Oltina"

    request = pb.UpdateMemoryRequest(memory=wanted)
    after = (await memory.stub.UpdateMemory(request, metadata=memory.metadata)).memory

    assert (after.text, dict(after.labels), after.etag != created.etag) == (
        "Oltina",
        {"a": "1"},
        True,
    )
    wanted.question = "What is the capital of Brindoria?"
    wanted.etag = ""
    refused = memory.stub.UpdateMemory(
        pb.UpdateMemoryRequest(memory=wanted), metadata=memory.metadata
    )
    assert await violated(refused) == {"memory.question"}


async def test_a_star_changes_all_to_what_was_sent(memory: Any) -> None:
    """What is not filled in goes back to its default."""
    created = await memory.create(CAPITAL, "Tashkeri", labels={"a": "1"}, importance=0.9)

    after = (await update(memory, created.memory.name, ["*"], text="Oltina")).memory

    assert (after.text, dict(after.labels), after.importance) == ("Oltina", {}, 0.5)
    assert await violated(update(memory, created.memory.name, ["*"])) == {"memory.text"}


async def test_the_same_again_writes_nothing(memory: Any) -> None:
    """Neither an update without a difference nor a repeated request."""
    created = (await memory.create(CAPITAL, "Tashkeri")).memory
    request_id = str(uuid.uuid4())
    assert (await update(memory, created.name, text="Tashkeri")).memory == created

    one = await update(
        memory, created.name, text="Oltina", request_id=request_id, etag=created.etag
    )
    two = await update(memory, created.name, text="Velm", etag=one.memory.etag)
    again = await update(
        memory, created.name, text="Oltina", request_id=request_id, etag=created.etag
    )

    assert again.memory == two.memory
    other = await refusal(update(memory, created.name, text="X", request_id=request_id))
    assert other.reason == "REQUEST_ID_REUSED"


async def test_of_two_updates_with_one_etag_one_wins(memory: Any) -> None:
    """The other hears STALE_ETAG with both."""
    created = (await memory.create(CAPITAL, "Tashkeri")).memory
    answers = await asyncio.gather(
        *(update(memory, created.name, text=f"v{n}", etag=created.etag) for n in range(5)),
        return_exceptions=True,
    )

    won = [answer for answer in answers if isinstance(answer, pb.UpdateMemoryResponse)]
    assert len(won) == 1
    stale = await refusal(update(memory, created.name, text="x", etag=created.etag))
    assert stale.reason == "STALE_ETAG"
    assert stale.metadata == {"expected": created.etag, "actual": won[0].memory.etag}


async def test_only_active_memories_of_the_caller_change(memory: Any) -> None:
    """Deleted, foreign and absent ones answer alike; superseded ones are in conflict."""
    old = (await memory.create(CAPITAL, "Tashkeri")).memory
    new = (await memory.create(CAPITAL, "Oltina")).memory

    conflict = await refusal(update(memory, old.name, text="x"))
    assert (conflict.reason, conflict.metadata["state"]) == ("STATE_CONFLICT", "SUPERSEDED")
    await delete(memory, new.name)
    foreign = memory.stub.UpdateMemory(
        pb.UpdateMemoryRequest(memory=memory_pb2.Memory(name=old.name, text="x")),
        metadata=(("x-selm-tenant", "other"),),
    )
    calls = (
        update(memory, new.name, text="x"),
        update(memory, ABSENT, text="x"),
        foreign,
        update(memory, old.name.replace(USER, "users/bo"), text="x"),
    )
    assert [(await refusal(call)).reason for call in calls] == ["RESOURCE_NOT_FOUND"] * 4


async def test_a_memory_that_becomes_shared_supersedes_the_shared_one(memory: Any) -> None:
    """One live memory per scope: what it meets there gives way, what it left is free."""
    shared = (await memory.create(CAPITAL, "Tashkeri", visibility=SHARED)).memory
    own = (await memory.create(CAPITAL, "Oltina")).memory

    moved = (await update(memory, own.name, visibility=SHARED)).memory
    again = await memory.create(CAPITAL, "Velm")

    found = await memory.search(CAPITAL, parent="users/bo")
    assert [hit.memory.text for hit in found.hits] == ["Oltina"]
    beaten = await get(memory, shared.name)
    assert (beaten.state, beaten.superseded_by) == (STATE.STATE_SUPERSEDED, moved.name)
    assert again.superseded_memory == ""
    assert sorted(m.text for m in await listed(memory)) == ["Oltina", "Velm"]


async def test_a_changed_statement_is_found_by_its_new_text(memory: Any) -> None:
    """It is embedded and keyed anew, and repeats of the old text are new memories."""
    old, new = "Ana works at Brindelmark Steel.", "The lift is out of order."
    created = (await memory.create("", old, type=FACT)).memory
    await update(memory, created.name, text=new)

    (hit,) = (await memory.search("Is the lift working?")).hits
    (exact,) = (await memory.search(new)).hits
    assert (hit.memory.text, hit.score > 0.5) == (new, True)
    assert exact.scope.reason == search_pb2.ScopeDecision.REASON_EXACT_KEY
    assert (await memory.create("", new, type=FACT)).memory.name == created.name
    assert (await memory.create("", old, type=FACT)).memory.name != created.name


async def test_a_memory_whose_answer_was_changed_gives_up_its_lesson(memory: Any) -> None:
    """Else the weights would learn the old answer, and its proof would retire the new one."""
    lesson, _ = await memory.correct(CAPITAL, "Tashkeri", consent="MEMORY_ONLY")
    await memory.wait_for_step(lesson, "REMEMBERED")
    (stored,) = await listed(memory)

    after = (await update(memory, stored.name, text="Oltina")).memory

    assert (stored.lesson, after.lesson) == (lesson, "")
    assert (await memory.wait_for_step(lesson, "SUPERSEDED"))[-1] == ("SUPERSEDED", stored.name)


async def test_a_correction_by_hand_ends_the_lesson_it_replaces(memory: Any) -> None:
    """The trainer hears that the older answer is not to be learned."""
    lesson, _ = await memory.correct(CAPITAL, "Tashkeri", consent="MEMORY_ONLY")
    await memory.wait_for_step(lesson, "REMEMBERED")

    new = await memory.create(CAPITAL, "Oltina")

    assert ("SUPERSEDED", new.memory.name) in await memory.steps(lesson)


BAD_UPDATES: tuple[tuple[Any, dict[str, Any], set[str]], ...] = (
    (["question"], {}, {"update_mask[question]"}),
    (["name", "etag", "state"], {}, {f"update_mask[{p}]" for p in ("name", "etag", "state")}),
    (["labels.a"], {}, {"update_mask[labels.a]"}),
    (["*", "text"], {"text": "x"}, {"update_mask"}),
    (["text"], {}, {"memory.text"}),
    (["text"], {"text": "x" * (1 << 20)}, {"memory.text"}),
    (["text"], {"text": "bell\x07"}, {"memory.text"}),
    (["importance"], {"importance": float("nan")}, {"memory.importance"}),
    (["importance"], {"importance": -0.1}, {"memory.importance"}),
    (["visibility"], {"visibility": 9}, {"memory.visibility"}),
    (["labels"], {"labels": {"Bad": "x"}}, {"memory.labels[Bad]"}),
    (["expire_time"], {"expire_time": datetime(2001, 1, 1, tzinfo=UTC)}, {"memory.expire_time"}),
    ((), {"text": "x", "request_id": "1", "etag": "e" * 65}, {"request_id", "memory.etag"}),
)


async def test_a_bad_update_names_its_fields(memory: Any) -> None:
    """Whether or not the memory exists."""
    for paths, fields, expected in BAD_UPDATES:
        assert await violated(update(memory, ABSENT, paths, **fields)) == expected


async def test_a_validity_that_ends_before_it_starts_is_refused(memory: Any) -> None:
    """Against what is stored, too."""
    created = (await memory.create(CAPITAL, "Tashkeri")).memory
    early = datetime(2001, 1, 1, tzinfo=UTC)

    fields = await violated(update(memory, created.name, ["valid_end_time"], valid_end_time=early))

    assert fields == {"memory.valid_end_time"}
    assert await violated(update(memory, "memories/x", text="x")) == {"memory.name"}


async def test_history_comes_in_pages_also_of_a_deleted_memory(memory: Any) -> None:
    """Oldest first, without text once deleted; a token fits its own memory only."""
    created = (await memory.create(CAPITAL, "secret 0")).memory
    for number in range(1, 5):
        await update(memory, created.name, text=f"secret {number}")
    await delete(memory, created.name)
    seen, token, tokens = [], "", []
    while True:
        page = await history(memory, created.name, page_size=2, page_token=token)
        seen += page.changes
        token = page.next_page_token
        if not token:
            break
        tokens.append(token)

    kinds = [KINDS.KIND_CREATED, *[KINDS.KIND_UPDATED] * 4, KINDS.KIND_DELETED]
    assert [change.kind for change in seen] == kinds
    assert "secret" not in str(seen)
    assert "Velmora" not in str(seen)
    other = (await memory.create(CAPITAL, "Oltina")).memory
    for bad in (tokens[0][:-2] + "AA", "x"):
        error = await refusal(history(memory, created.name, page_token=bad))
        assert error.reason == "CURSOR_INVALID"
    assert (await refusal(history(memory, other.name, page_token=tokens[0]))).reason == (
        "CURSOR_INVALID"
    )


async def test_the_history_of_what_is_not_ones_own_does_not_exist(memory: Any) -> None:
    """A foreign name answers as an absent one; a malformed one is named."""
    created = (await memory.create(CAPITAL, "Tashkeri")).memory
    request = pb.ListMemoryHistoryRequest(parent=created.name)
    calls = (
        history(memory, ABSENT),
        history(memory, created.name.replace(USER, "users/bo")),
        memory.stub.ListMemoryHistory(request, metadata=(("x-selm-tenant", "other"),)),
    )

    assert [(await refusal(call)).reason for call in calls] == ["RESOURCE_NOT_FOUND"] * 3
    assert await violated(history(memory, "users/a", page_size=-1)) == {"parent", "page_size"}


def _without_upkeep(memory: memory_pb2.Memory) -> memory_pb2.Memory:
    shown = memory_pb2.Memory()
    shown.CopyFrom(memory)
    shown.ClearField("counters")
    shown.ClearField("etag")
    return shown


async def test_a_past_time_shows_what_was_said_then(memory: Any) -> None:
    """Lists and searches tell the text that was live, not what it was changed to since."""
    question = "Who keeps the lighthouse of Ombra?"
    created = (await memory.create(question, "Rasmus", labels={"source": "log"})).memory
    await update(memory, created.name, text="Odile", labels={"source": "letter"})
    past = {"as_of_time": created.create_time}

    then, now = await listed(memory, **past), await listed(memory)
    found = [
        (await memory.search(query, **past)).hits[0].memory
        for query in (question, "keeper of Ombra's lighthouse")
    ]

    assert [(m.text, m.labels["source"]) for m in then] == [("Rasmus", "log")]
    assert [(m.text, m.labels["source"]) for m in now] == [("Odile", "letter")]
    assert [m.text for m in found] == ["Rasmus", "Rasmus"]
