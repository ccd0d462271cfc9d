"""MemoryAdminService refuses what it must not do, and says which field is wrong."""

import random
from typing import Any

import grpc
import pytest

from selm.api.memory.v1 import memory_admin_service_pb2 as pb
from selm.api.memory.v1 import memory_pb2, search_pb2
from selm.errors import InvalidFields, SelmError, from_rpc_error
from tests.integration.memory.admin_support import counts, export, fill, imported, purge
from tests.integration.memory.running import USER

CORRECTION = memory_pb2.MEMORY_TYPE_CORRECTION
INJECTIONS = (
    'users/a" or 1 == 1',
    "users/a' or tenant != ''",
    "users/%",
    "users/",
    "users/a\n",
    "",
)


async def error_of(call: Any) -> SelmError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return from_rpc_error(refused.value)


def fields_of(error: SelmError) -> list[str]:
    assert isinstance(error, InvalidFields)
    return [violation.field for violation in error.violations]


async def test_a_purge_names_one_owner(memory: Any) -> None:
    """No wildcard, nothing that would be read as one."""
    await fill(memory, number=1)
    errors = [await error_of(purge(memory, parent)) for parent in (*INJECTIONS, "users/-")]

    assert [fields_of(error) for error in errors] == [["parent"]] * len(errors)
    assert await counts(memory) == {"ACTIVE": 1}


async def test_export_and_statistics_name_an_owner(memory: Any) -> None:
    """Or the wildcard, and nothing else."""
    errors = [await error_of(export(memory, parent)) for parent in INJECTIONS]
    errors += [await error_of(counts(memory, parent)) for parent in INJECTIONS]

    assert [fields_of(error) for error in errors] == [["parent"]] * len(errors)


async def test_a_filter_is_checked_like_any_other(memory: Any) -> None:
    """Every fault at once; DELETED is no state to ask for."""
    wanted = search_pb2.MemoryFilter(
        types=[99],  # type: ignore[list-item]
        states=[memory_pb2.Memory.STATE_DELETED],
        subject_key="x" * 300,
        min_importance=2,
        labels=[search_pb2.LabelCondition(key='a" or 1', operator=99)],  # type: ignore[arg-type]
    )
    error = await error_of(purge(memory, filter=wanted, request_id="no uuid"))

    assert {
        "filter.types[0]",
        "filter.states[0]",
        "filter.subject_key",
        "filter.min_importance",
        "filter.labels[0].key",
        "filter.labels[0].operator",
        "request_id",
    } == set(fields_of(error))


async def test_a_tampered_resume_token_is_refused(memory: Any) -> None:
    """CURSOR_INVALID names the field."""
    await fill(memory, number=2)
    token = (await export(memory))[0].resume_token
    flipped = token[:5] + ("A" if token[5] != "A" else "B") + token[6:]
    tampered = (token[:-3], flipped, "AAAA", "é", "x" * 10_000)
    errors = [await error_of(export(memory, resume_token=token)) for token in tampered]

    told = [(error.reason, error.metadata) for error in errors]
    assert told == [("CURSOR_INVALID", {"field": "resume_token"})] * len(tampered)


def wire(**fields: Any) -> pb.ImportMemoriesRequest:
    fields = {
        "name": f"{USER}/memories/a",
        "type": CORRECTION,
        "text": "t",
        "question": "q",
    } | fields
    return pb.ImportMemoriesRequest(memory=memory_pb2.Memory(**fields))


BAD: tuple[tuple[str, dict[str, Any]], ...] = (
    ("memory.name", {"name": 'users/a/memories/b" or 1'}),
    ("memory.name", {"name": ""}),
    ("memory.name", {"name": "users/-/memories/b"}),
    ("memory.type", {"type": 99}),
    ("memory.text", {"text": ""}),
    ("memory.text", {"text": "x" * 1_000_000}),
    ("memory.text", {"text": "bell\x07"}),
    ("memory.question", {"question": ""}),
    ("memory.state", {"state": memory_pb2.Memory.STATE_DELETED}),
    ("memory.state", {"state": 99}),
    ("memory.state", {"state": memory_pb2.Memory.STATE_EXPIRED}),
    ("memory.visibility", {"visibility": 9}),
    ("memory.importance", {"importance": float("nan")}),
    ("memory.lesson", {"lesson": "lessons/a.b"}),
    ("memory.superseded_by", {"superseded_by": "nobody"}),
    ("memory.duplicate_count", {"duplicate_count": -1}),
    ("memory.counters.agreed_count", {"counters": memory_pb2.MemoryCounters(agreed_count=-1)}),
    ("memory.labels[A]", {"labels": {"A": "b"}}),
    ("memory.embedding_model", {"embedding_model": "m" * 300}),
)


async def test_bad_memories_are_refused_by_their_place(memory: Any) -> None:
    """Each names its field; the good ones around them are stored."""
    good = [wire(name=f"{USER}/memories/{i}", question=f"Who is the mayor of X{i}?") for i in "bc"]
    done = await imported(memory, [good[0], *(wire(**fields) for _, fields in BAD), good[1]])
    told = [(f.index, f.failure.message.split(": ")[0]) for f in done.failures]

    assert done.imported_count == 2
    assert told == [(index, field) for index, (field, _) in enumerate(BAD, 1)]


async def test_only_the_first_hundred_failures_are_listed(memory: Any) -> None:
    """In the order of the stream, across batches."""
    bad = [wire(name="nobody") for _ in range(300)]
    done = await imported(memory, bad)

    assert (done.imported_count, done.skipped_count) == (0, 0)
    assert list(range(100)) == [failure.index for failure in done.failures]


async def test_noise_is_never_an_internal_error(memory: Any) -> None:
    """Random names and texts: stored, skipped or refused with a reason."""
    noise = random.Random(7)

    def text(length: int) -> str:
        return "".join(
            chr(noise.choice((noise.randrange(1, 0x250), 0x4E00))) for _ in range(length)
        )

    def garbled() -> str:
        return text(8).encode("utf-8", "ignore").decode()

    requests = [
        wire(name=f"{USER}/memories/{garbled()}", text=garbled(), subject_key=garbled())
        for _ in range(40)
    ]
    done = await imported(memory, requests)
    reasons = {failure.failure.reason for failure in done.failures}

    assert done.imported_count + done.skipped_count + len(done.failures) == 40
    assert len(reasons) <= 1
