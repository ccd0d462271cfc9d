"""Group commit on a real broker: what each of many callers is told, and what is stored for it."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from selm import streams
from selm.bus import Bus, PublishAck
from selm.bus_errors import BatchRefusedError
from selm.errors import SelmError
from selm.group_commit import GroupCommitter
from selm.nats_server import NatsServer
from selm.publication import Publication
from selm.testing import eventually

STREAM = streams.FEEDBACK.name


@pytest.fixture
async def committer(bus: Bus) -> AsyncIterator[GroupCommitter]:
    """A committer at work on the shared server."""
    made = GroupCommitter(bus, STREAM)
    async with made.running():
        yield made


def subject_of(tenant: str, user: str = "users/ada") -> str:
    return streams.feedback_created(tenant, user)


def append(committer: GroupCommitter, subject: str, text: str) -> "asyncio.Task[PublishAck]":
    """Starts an append; tasks start in the order in which they were made."""
    message_id = f"{subject}-{text[:40]}-{len(text)}"
    call = committer.append(subject, StringValue(value=text), message_id=message_id)
    return asyncio.create_task(call)


async def texts(bus: Bus, subject: str) -> list[str]:
    return [d.parse(StringValue).value for d in await bus.read(STREAM, [subject])]


def publication(subject: str, text: str) -> Publication:
    return Publication.of(subject, StringValue(value=text), f"{subject}-{text}")


async def limit(bus: Bus, **limits: int) -> None:
    jetstream = bus.connection.jetstream()
    config = (await jetstream.stream_info(STREAM)).config
    for name, value in limits.items():
        setattr(config, name, value)
    await jetstream.update_stream(config)


async def test_a_batch_is_stored_whole_and_acknowledged_one_by_one(bus: Bus, tenant: str) -> None:
    """Every member learns its own sequence."""
    subject = subject_of(tenant)
    wanted = [str(i) for i in range(5)]

    acks = await bus.publish_batch([publication(subject, text) for text in wanted])

    stored = await bus.read(STREAM, [subject])
    assert [d.parse(StringValue).value for d in stored] == wanted
    assert [d.sequence for d in stored] == [ack.sequence for ack in acks]
    assert [d.message_id for d in stored] == [f"{subject}-{text}" for text in wanted]
    assert {ack.stream for ack in acks} == {STREAM}


async def test_a_batch_with_a_known_message_id_stores_nothing(bus: Bus, tenant: str) -> None:
    """All or none: the caller decides what to do with the others."""
    subject = subject_of(tenant)
    await bus.publish_batch([publication(subject, "old")])

    with pytest.raises(BatchRefusedError):
        await bus.publish_batch([publication(subject, text) for text in ("new", "old")])

    assert await texts(bus, subject) == ["old"]


async def test_a_batch_for_two_streams_stores_nothing(bus: Bus, tenant: str) -> None:
    """A batch belongs to one stream."""
    other = streams.lesson_advanced("remembered", tenant, "l1")

    with pytest.raises(BatchRefusedError):
        await bus.publish_batch([publication(other, "a"), publication(subject_of(tenant), "b")])

    assert await texts(bus, subject_of(tenant)) == []
    assert await bus.read("LESSONS", [other]) == []


async def test_a_batch_has_a_size(bus: Bus, tenant: str) -> None:
    """The broker takes a thousand messages, and refuses one more."""
    with pytest.raises(ValueError, match="1001"):
        await bus.publish_batch([publication(subject_of(tenant), str(i)) for i in range(1001)])
    assert await bus.publish_batch([]) == []
    whole = [publication(subject_of(tenant), str(i)) for i in range(1000)]
    assert len(await bus.publish_batch(whole)) == 1000


async def test_an_existing_stream_learns_to_take_batches(bus: Bus, tenant: str) -> None:
    """A deployment from before batches is brought up to date at start."""
    await limit(bus, allow_atomic=False)
    with pytest.raises(BatchRefusedError):
        await bus.publish_batch([publication(subject_of(tenant), text) for text in "ab"])

    await bus.ready()

    assert len(await bus.publish_batch([publication(subject_of(tenant), t) for t in "ab"])) == 2


async def test_a_stream_that_takes_no_batches_is_written_one_by_one(own_bus: Bus) -> None:
    """An older service, started later, took the permission away again: slower, and no harm."""
    await limit(own_bus, allow_atomic=False)
    committer = GroupCommitter(own_bus, STREAM)
    subject = subject_of("default")
    async with committer.running():
        acks = await asyncio.gather(*(append(committer, subject, str(i)) for i in range(8)))

    assert [ack.sequence for ack in acks] == list(range(1, 9))
    assert await texts(own_bus, subject) == [str(i) for i in range(8)]


async def test_only_streams_with_batches_have_a_committer(bus: Bus) -> None:
    """A mistake of the programmer is told at once."""
    with pytest.raises(ValueError, match="GENERATIONS"):
        GroupCommitter(bus, "GENERATIONS")


async def test_one_append_is_a_plain_publish(
    bus: Bus, committer: GroupCommitter, tenant: str
) -> None:
    """Alone it pays for no batch."""
    ack = await append(committer, subject_of(tenant), "a")

    (stored,) = await bus.read(STREAM, [subject_of(tenant)])
    assert stored.sequence == ack.sequence
    assert stored.message_type == "google.protobuf.StringValue"
    assert "Nats-Batch-Id" not in stored.headers


async def test_concurrent_appends_share_batches_and_keep_the_order_of_a_subject(
    bus: Bus, committer: GroupCommitter, tenant: str
) -> None:
    """Two users at once: each one's history reads as it was told, each ack names its message."""
    subjects = [subject_of(tenant, user) for user in ("users/ada", "users/bob")]
    tasks = [append(committer, subjects[i % 2], str(i)) for i in range(600)]
    acks = await asyncio.gather(*tasks)

    for place, subject in enumerate(subjects):
        stored = await bus.read(STREAM, [subject])
        assert [d.parse(StringValue).value for d in stored] == [
            str(i) for i in range(600) if i % 2 == place
        ]
        assert [d.sequence for d in stored] == [acks[i].sequence for i in range(place, 600, 2)]
    batches = {d.headers.get("Nats-Batch-Id") for d in await bus.read(STREAM, subjects)}
    assert len(batches) < 10
    assert not any(ack.duplicate for ack in acks)


async def test_a_repeat_among_new_ones_gets_the_first_sequence(
    bus: Bus, committer: GroupCommitter, tenant: str
) -> None:
    """The refused batch is taken apart: new ones are stored, the known one is told so."""
    subject = subject_of(tenant)
    first = await append(committer, subject, "7")

    acks = await asyncio.gather(*(append(committer, subject, str(i)) for i in range(20)))

    assert acks[7] == PublishAck(STREAM, first.sequence, True)
    assert sum(ack.duplicate for ack in acks) == 1
    assert sorted(map(int, await texts(bus, subject))) == list(range(20))
    assert (await texts(bus, subject))[1:] == [str(i) for i in range(20) if i != 7]


async def test_the_same_id_at_the_same_time_is_stored_once(
    bus: Bus, committer: GroupCommitter, tenant: str
) -> None:
    """A client that sent twice gets one event, and so do its neighbours."""
    subject = subject_of(tenant)
    names = ["a", "twice", "b", "twice", "c", "twice", "d"]

    acks = await asyncio.gather(*(append(committer, subject, name) for name in names))

    assert await texts(bus, subject) == ["a", "twice", "b", "c", "d"]
    assert {acks[i].sequence for i in (1, 3, 5)} == {acks[1].sequence}
    assert [ack.duplicate for ack in acks] == [False, False, False, True, False, True, False]


async def test_cancelling_one_caller_harms_no_other(
    bus: Bus, committer: GroupCommitter, tenant: str
) -> None:
    """A client that hangs up takes only its own call with it, before or while it is stored."""
    subject = subject_of(tenant)
    tasks = [append(committer, subject, str(i)) for i in range(40)]
    await asyncio.sleep(0)
    # The first is on its way already; the others wait.
    for i in (0, 3, 39):
        tasks[i].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    cancelled = [i for i, result in enumerate(results) if isinstance(result, BaseException)]
    assert cancelled == [0, 3, 39]
    stored = set(await texts(bus, subject))
    assert {str(i) for i in range(40)} - {"0", "3", "39"} <= stored
    assert not {"3", "39"} & stored
    assert (await append(committer, subject, "after")).sequence > 0


async def test_a_full_stream_refuses_only_what_does_not_fit(own_bus: Bus) -> None:
    """Room for three: three are stored, and every other caller hears STORAGE_FULL."""
    await limit(own_bus, max_msgs=3)
    subject = subject_of("default")
    committer = GroupCommitter(own_bus, STREAM)
    async with committer.running():
        results = await asyncio.gather(
            *(append(committer, subject, str(i)) for i in range(10)), return_exceptions=True
        )

    refused = [result for result in results if isinstance(result, SelmError)]
    assert len(refused) == 7
    assert {(e.reason, e.retry_after_s) for e in refused} == {("STORAGE_FULL", 1.0)}
    assert await texts(own_bus, subject) == ["0", "1", "2"]


async def test_one_too_large_message_harms_no_other(own_bus: Bus) -> None:
    """The stream's own limit, and that of the connection."""
    await limit(own_bus, max_msg_size=1000)
    subject = subject_of("default")
    committer = GroupCommitter(own_bus, STREAM)
    payloads = ["a", "x" * 2000, "b", "x" * (9 * 1024 * 1024), "c"]
    async with committer.running():
        results = await asyncio.gather(
            *(append(committer, subject, text) for text in payloads), return_exceptions=True
        )

    reasons = [result.reason if isinstance(result, SelmError) else "" for result in results]
    assert reasons == ["", "MESSAGE_TOO_LARGE", "", "MESSAGE_TOO_LARGE", ""]
    assert await texts(own_bus, subject) == ["a", "b", "c"]


async def test_too_many_waiting_are_refused_with_a_time_to_come_back(bus: Bus, tenant: str) -> None:
    """The queue has an end; what was taken is stored."""
    committer = GroupCommitter(bus, STREAM, max_waiting=10)
    subject = subject_of(tenant)
    tasks = [append(committer, subject, str(i)) for i in range(15)]
    await asyncio.sleep(0)
    async with committer.running():
        results = await asyncio.gather(*tasks, return_exceptions=True)

    refused = [result for result in results if isinstance(result, SelmError)]
    assert [error.reason for error in refused] == ["QUEUE_FULL"] * 5
    assert all(error.retry_after_s for error in refused)
    assert await texts(bus, subject) == [str(i) for i in range(10)]


async def test_without_a_broker_appends_fail_at_once(nats_server: NatsServer, own_bus: Bus) -> None:
    """Nobody waits in a queue for a broker that is known to be away."""
    committer = GroupCommitter(own_bus, STREAM, timeout_s=30)

    async def is_away() -> bool:
        return not own_bus.is_connected

    nats_server.kill()
    await eventually(is_away)
    async with committer.running(), asyncio.timeout(2):
        with pytest.raises(SelmError) as failure:
            await append(committer, subject_of("default"), "a")

    assert failure.value.reason == "BUS_UNAVAILABLE"


async def test_stopping_answers_everybody(bus: Bus, tenant: str) -> None:
    """No caller is left hanging when the service ends."""
    committer = GroupCommitter(bus, STREAM)
    tasks = [append(committer, subject_of(tenant), str(i)) for i in range(5)]
    await asyncio.sleep(0)
    async with committer.running():
        pass
    async with asyncio.timeout(1):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    reasons = {result.reason for result in results if isinstance(result, SelmError)}

    assert reasons <= {"BUS_UNAVAILABLE"}
    assert len(await texts(bus, subject_of(tenant))) <= 5


async def test_a_batch_without_its_end_leaves_no_trace(
    nats_server: NatsServer, own_bus: Bus
) -> None:
    """The broker dies in the middle of a batch: nothing of it is ever read."""
    subject = subject_of("default")
    for place in (1, 2, 3):
        headers = {"Nats-Batch-Id": "b1", "Nats-Batch-Sequence": str(place)}
        await own_bus.connection.client.publish(subject, b"half", headers=headers)
    await own_bus.connection.client.flush()
    await restart(nats_server, own_bus)

    state = (await own_bus.connection.jetstream().stream_info(STREAM)).state
    assert (state.messages, state.last_seq) == (0, 0)
    assert len(await own_bus.publish_batch([publication(subject, text) for text in "ab"])) == 2


async def test_appends_through_kills_of_the_broker_are_stored_exactly_once(
    nats_server: NatsServer, own_bus: Bus
) -> None:
    """P-01 and P-02: 16 clients repeat with the same id until they are told; nothing is lost."""
    committer = GroupCommitter(own_bus, STREAM, timeout_s=1)
    num_clients, num_events = 16, 30
    is_done = asyncio.Event()
    num_failures = 0

    async def client(number: int) -> dict[str, int]:
        nonlocal num_failures
        subject = subject_of("default", f"users/{number}")
        sequences = {}
        for i in range(num_events):
            while True:
                try:
                    ack = await append(committer, subject, f"{number}-{i}")
                except SelmError as error:
                    assert error.reason == "BUS_UNAVAILABLE"
                    num_failures += 1
                    await asyncio.sleep(0.1)
                else:
                    break
            sequences[f"{number}-{i}"] = ack.sequence
            await asyncio.sleep(0.02)
        return sequences

    async def killer() -> None:
        while not is_done.is_set():
            await asyncio.sleep(random.uniform(0.1, 0.6))
            await restart(nats_server, own_bus)

    async with committer.running():
        kills = asyncio.create_task(killer())
        by_client = await asyncio.gather(*(client(number) for number in range(num_clients)))
        is_done.set()
        await kills

    acknowledged = {text: number for one in by_client for text, number in one.items()}
    stored = await own_bus.read(STREAM, ["selm.feedback.created.>"])
    assert num_failures > 0, "no kill hit anything"
    assert {d.parse(StringValue).value: d.sequence for d in stored} == acknowledged
    assert len(stored) == num_clients * num_events
    for number in range(num_clients):
        wanted = [f"{number}-{i}" for i in range(num_events)]
        assert await texts(own_bus, subject_of("default", f"users/{number}")) == wanted


async def restart(server: NatsServer, bus: Bus) -> None:
    """kill -9 and a new start on the same data; returns when the bus is connected again."""
    epoch = bus.connection.epoch
    server.kill()
    await asyncio.to_thread(server.start)

    async def is_connected_anew() -> bool:
        return bus.connection.epoch > epoch

    await eventually(is_connected_anew, timeout_s=20)
