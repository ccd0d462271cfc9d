"""The sweep takes the text of what has run out, of nothing else, and readers notice nothing."""

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration

from memory_svc.core import Memory, State, owner_of
from selm import consistency, streams
from selm.api.memory.v1 import memory_pb2
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.testing import eventually
from tests.integration.memory.admin_support import counts
from tests.integration.memory.running import USER, RunningMemory, correction, running_memory
from tests.integration.memory.test_tombstones import row_of, store_of

MAYOR = "Who is the mayor of Velmora?"
QUESTION = "Where is the key of the boat house?"
CONTEXT = memory_pb2.MEMORY_TYPE_CONTEXT


async def short_lived(memory: RunningMemory, seconds: float) -> str:
    request = pb.CreateMemoryRequest(
        parent=USER,
        memory=memory_pb2.Memory(
            type=CONTEXT, question=QUESTION, text="under the third stone", labels={"a": "secret"}
        ),
        ttl=Duration(nanos=int(seconds * 1e9)),
    )
    return (await memory.stub.CreateMemory(request, metadata=memory.metadata)).memory.name


async def past_time(moment: datetime | None) -> None:
    assert moment is not None
    await asyncio.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()) + 0.01)


def said(row: Memory) -> str:
    """Everything in a row that could hold what was said."""
    fields = [change.fields for change in row.changes]
    return f"{row.text}{row.question}{row.subject_key}{dict(row.labels)}{fields}"


async def test_the_text_of_what_ran_out_is_removed(milvus_uri: str, nats_server: Any) -> None:
    """Readers saw EXPIRED before and see EXPIRED after; what goes on is not touched."""
    own = {"collection": f"c{uuid.uuid4().hex}", "tenant": "swept"}
    async with (
        running_memory(milvus_uri, nats_server.url, sweep_interval_s=0.2, **own) as memory,
        store_of(milvus_uri, own["collection"]) as store,
    ):
        await memory.bus.ready()
        kept = (await memory.create("Who is the mayor of Velmora?", "Odette")).memory.name
        name = await short_lived(memory, 0.5)

        async def is_swept() -> bool:
            return (await row_of(store, "swept", name)).state is State.EXPIRED

        await eventually(is_swept)
        row, other = await row_of(store, "swept", name), await row_of(store, "swept", kept)
        got = await memory.stub.GetMemory(pb.GetMemoryRequest(name=name), metadata=memory.metadata)
        found = await memory.search(QUESTION)
        numbers = await counts(memory)

    assert "stone" not in said(row) and "boat" not in said(row) and "secret" not in said(row)
    assert (row.memory_id, row.user) == (owner_of(name)[1], USER)
    assert row.vector[1] == 0.0
    assert (got.memory.state, got.memory.text) == (memory_pb2.Memory.STATE_EXPIRED, "")
    assert name not in [hit.memory.name for hit in found.hits]
    assert (other.text, other.state) == ("Odette", State.ACTIVE)
    assert numbers == {"ACTIVE": 1, "EXPIRED": 1}


async def test_a_start_sweeps_what_ran_out_meanwhile(milvus_uri: str, nats_server: Any) -> None:
    """Without waiting for the interval; and what is merely no longer valid keeps its text."""
    own = {"collection": f"c{uuid.uuid4().hex}", "tenant": "sweptlater"}
    async with store_of(milvus_uri, own["collection"]) as store:
        async with running_memory(milvus_uri, nats_server.url, **own) as memory:
            await memory.bus.ready()
            name = await short_lived(memory, 0.3)
            invalid = (await memory.create("Who is the mayor of Velmora?", "Odette")).memory.name
            past = datetime.now(UTC) - timedelta(days=1)
            row = await row_of(store, "sweptlater", invalid)
            before = await row_of(store, "sweptlater", name)
        await store.put([replace(row, valid_end_time=past)])
        # A start that comes before the time is up would sweep nothing and wait for its interval.
        await past_time(before.expire_time)
        async with running_memory(milvus_uri, nats_server.url, **own) as memory:

            async def is_swept() -> bool:
                return (await row_of(store, "sweptlater", name)).state is State.EXPIRED

            swept = await eventually(is_swept)
            other = await row_of(store, "sweptlater", invalid)
            seen = await counts(memory)

    assert swept
    assert (before.state, before.text) == (State.ACTIVE, "under the third stone")
    assert (other.state, other.text) == (State.ACTIVE, "Odette")
    assert seen == {"EXPIRED": 2}


async def test_what_was_swept_keeps_an_older_correction_from_coming_alive(
    milvus_uri: str, nats_server: Any
) -> None:
    """It arrives late, and was corrected before it came; later words are heard as ever."""
    own = {"collection": f"c{uuid.uuid4().hex}", "tenant": "sweptrival"}
    async with (
        running_memory(milvus_uri, nats_server.url, sweep_interval_s=0.2, **own) as memory,
        store_of(milvus_uri, own["collection"]) as store,
    ):
        await memory.bus.ready()
        soon = datetime.now(UTC) + timedelta(seconds=0.5)
        newer = (await memory.create(MAYOR, "Odette", expire_time=soon)).memory.name

        async def is_swept() -> bool:
            return (await row_of(store, "sweptrival", newer)).state is State.EXPIRED

        await eventually(is_swept)
        late = correction(MAYOR, "Rufus", consent="MEMORY_ONLY")
        late.feedback_event.create_time.FromDatetime(soon - timedelta(hours=1))
        subject = streams.feedback_created("sweptrival", USER)
        await memory.bus.publish(subject, late, message_id=late.feedback_event.name)
        _, sequence = await memory.correct("Who is the mayor of Oltina?", "Selma")
        token = consistency.encode(streams.FEEDBACK.name, sequence)
        found = await memory.search(MAYOR, consistency_token=token)
        await memory.create(MAYOR, "Hanna")
        later = await memory.search(MAYOR)

    assert not {"Rufus", "Odette", ""} & {hit.memory.text for hit in found.hits}
    assert later.hits[0].memory.text == "Hanna"


async def test_a_past_time_does_not_bring_back_what_was_swept(
    milvus_uri: str, nats_server: Any
) -> None:
    """It was live then, and nothing of it is left to be told."""
    own = {"collection": f"c{uuid.uuid4().hex}", "tenant": "sweptpast"}
    async with (
        running_memory(milvus_uri, nats_server.url, sweep_interval_s=0.2, **own) as memory,
        store_of(milvus_uri, own["collection"]) as store,
    ):
        await memory.bus.ready()
        soon = datetime.now(UTC) + timedelta(seconds=0.5)
        gone = (await memory.create(MAYOR, "Odette", expire_time=soon)).memory

        async def is_swept() -> bool:
            return (await row_of(store, "sweptpast", gone.name)).state is State.EXPIRED

        await eventually(is_swept)
        found = await memory.search(MAYOR, as_of_time=gone.create_time)

    assert not found.hits
