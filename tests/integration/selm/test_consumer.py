"""Durable consumers on a real broker: retries, outages, dead letters, crashes, stalls."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import REGISTRY

from selm import streams
from selm.bus import Bus, Delivery
from selm.errors import SelmError
from selm.nats_server import NatsServer
from selm.testing import eventually

_LABELS = {"stream": "FEEDBACK"}

Handler = Callable[[Delivery], Awaitable[None]]


@contextmanager
def consuming(bus: Bus, tenant: str, handler: Handler, **options: object) -> Iterator[None]:
    """Run a durable consumer of the tenant's feedback for the time of the block."""
    arguments = {"stream": "FEEDBACK", "durable": f"d-{tenant}", **options}
    subjects = [streams.any_of(f"selm.feedback.created.{tenant}")]
    task = asyncio.create_task(bus.consume(handler=handler, subjects=subjects, **arguments))  # type: ignore[arg-type]
    try:
        yield
    finally:
        task.cancel()


async def _publish(bus: Bus, tenant: str, *texts: str) -> None:
    for text in texts:
        subject = streams.feedback_created(tenant, "users/ada")
        await bus.publish(subject, StringValue(value=text), message_id=f"{tenant}-{text}")


class Recorder:
    """A handler that keeps what it saw and fails as told, one failure per delivery."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.seen: list[tuple[str, int]] = []

    async def __call__(self, delivery: Delivery) -> None:
        self.seen.append((delivery.parse(StringValue).value, delivery.num_delivered))
        if self.failures:
            raise self.failures.pop(0)

    def has(self, count: int) -> Callable[[], Awaitable[bool]]:
        async def probe() -> bool:
            return len(self.seen) >= count

        return probe


async def _num_unacknowledged(bus: Bus, tenant: str) -> int:
    info = await bus.connection.jetstream().consumer_info("FEEDBACK", f"d-{tenant}")
    return int(info.num_ack_pending + info.num_pending)


async def test_handled_messages_are_acknowledged_in_order(bus: Bus, tenant: str) -> None:
    """A handler that returns has taken the message over for good."""
    recorder = Recorder()
    await _publish(bus, tenant, "a", "b", "c")

    async def all_acknowledged() -> bool:
        return await _num_unacknowledged(bus, tenant) == 0

    with consuming(bus, tenant, recorder):
        await eventually(recorder.has(3))
        await eventually(all_acknowledged)

    assert recorder.seen == [("a", 1), ("b", 1), ("c", 1)]


async def test_a_failed_message_comes_again(bus: Bus, tenant: str) -> None:
    """One exception is not the end of a correction."""
    recorder = Recorder(RuntimeError("once"))
    await _publish(bus, tenant, "a")
    with consuming(bus, tenant, recorder):
        await eventually(recorder.has(2))

    assert recorder.seen == [("a", 1), ("a", 2)]


async def test_in_order_no_message_passes_one_that_is_retried(bus: Bus, tenant: str) -> None:
    """A newer correction must not be applied before the older one of the same question."""
    recorder = Recorder(RuntimeError("once"))
    await _publish(bus, tenant, "a", "b")
    with consuming(bus, tenant, recorder, is_in_order=True):
        await eventually(recorder.has(3))

    assert [text for text, _ in recorder.seen] == ["a", "a", "b"]


async def test_after_max_deliver_the_message_becomes_a_dead_letter(bus: Bus, tenant: str) -> None:
    """A poison message neither blocks the others nor vanishes."""
    poison = SelmError("INVALID_FIELD", "no\nquestion")
    recorder = Recorder(poison, poison)
    await _publish(bus, tenant, "bad")
    filters = [streams.any_of(f"selm.dead_letter.created.{tenant}")]

    async def dead_letters() -> list[Delivery]:
        return await bus.read("DEAD_LETTERS", filters)

    with consuming(bus, tenant, recorder, max_deliver=2):
        (letter,) = await eventually(dead_letters)
        await _publish(bus, tenant, "good")
        await eventually(recorder.has(3))

    assert recorder.seen == [("bad", 1), ("bad", 2), ("good", 1)]
    assert letter.parse(StringValue).value == "bad"
    assert letter.headers["Selm-Dead-Reason"] == "INVALID_FIELD"
    assert letter.headers["Selm-Dead-Message"] == "INVALID_FIELD: no question"
    assert letter.headers["Selm-Dead-Stream"] == "FEEDBACK"


async def test_an_outage_of_a_dependency_spends_no_delivery(bus: Bus, tenant: str) -> None:
    """However long the store is away, the message waits here and is handled afterwards."""
    outage = [SelmError("STORE_UNAVAILABLE", "away") for _ in range(3)]
    recorder = Recorder(*outage)
    await _publish(bus, tenant, "a")
    with consuming(bus, tenant, recorder, max_deliver=2, ack_wait_s=1.0):
        await eventually(recorder.has(4))

    assert recorder.seen == [("a", 1)] * 4


async def test_a_message_that_kills_its_handler_becomes_a_dead_letter(
    bus: Bus, tenant: str
) -> None:
    """A crash loop ends: deliveries are counted even when no handler lives to report."""
    started = asyncio.Event()

    async def hang(delivery: Delivery) -> None:
        started.set()
        await asyncio.Event().wait()

    await _publish(bus, tenant, "deadly")
    for _ in range(2):
        started.clear()
        with consuming(bus, tenant, hang, max_deliver=2):
            await asyncio.wait_for(started.wait(), 10)
    recorder = Recorder()
    filters = [streams.any_of(f"selm.dead_letter.created.{tenant}")]

    async def dead_letters() -> list[Delivery]:
        return await bus.read("DEAD_LETTERS", filters)

    with consuming(bus, tenant, recorder, max_deliver=2):
        await eventually(dead_letters)

    assert recorder.seen == []


async def test_a_work_queue_is_empty_after_its_message_was_handled(
    own_bus: Bus, tenant: str
) -> None:
    """A training request is taken by exactly one trainer and then gone.

    On a broker of its own: the trainers' consumer outlives the test, with one tenant's filter."""
    subject = streams.training_requested(tenant)
    await own_bus.publish(subject, StringValue(value="x"), message_id=tenant)
    recorder = Recorder()

    async def is_gone() -> bool:
        return await own_bus.last("TRAINING", subject) is None

    trainers = [
        asyncio.create_task(
            own_bus.consume("TRAINING", "trainer_train", recorder, subjects=[subject])
        )
        for _ in range(2)
    ]
    await eventually(is_gone)
    for trainer in trainers:
        trainer.cancel()

    assert recorder.seen == [("x", 1)]


async def test_a_long_handler_keeps_its_message_with_in_progress(bus: Bus, tenant: str) -> None:
    """A job may outlive ack_wait many times over, as long as it says that it is alive."""
    recorder = Recorder()

    async def slow(delivery: Delivery) -> None:
        await recorder(delivery)
        for _ in range(6):
            await asyncio.sleep(0.3)
            await delivery.in_progress()

    await _publish(bus, tenant, "a", "b")
    with consuming(bus, tenant, slow, ack_wait_s=1.0):
        await eventually(recorder.has(2))

    assert recorder.seen == [("a", 1), ("b", 1)]


@pytest.mark.parametrize("batch", [1, 16])
async def test_consuming_goes_on_after_the_broker_was_killed(
    nats_server: NatsServer, own_bus: Bus, batch: int
) -> None:
    """kill -9 of the broker in mid-stream: every message is handled, none needs a restart."""
    recorder = Recorder()
    with consuming(own_bus, "default", recorder, batch=batch, ack_wait_s=2.0):
        for round_ in range(3):
            await _publish(own_bus, "default", f"before{round_}")
            nats_server.kill()
            await asyncio.to_thread(nats_server.start)
            await asyncio.wait_for(own_bus.wait_connected(), 20)
            await _publish(own_bus, "default", f"after{round_}")

        async def has_everything() -> bool:
            return len({text for text, _ in recorder.seen}) == 6

        await eventually(has_everything, timeout_s=30)

    assert {text for text, _ in recorder.seen} == {
        f"{when}{round_}" for when in ("before", "after") for round_ in range(3)
    }


async def test_cancelling_ends_at_once_while_the_broker_is_away(
    nats_server: NatsServer, own_bus: Bus
) -> None:
    """A service stops on SIGTERM whatever the broker does: with a message in hand or without."""
    holding = asyncio.Event()

    async def hold(delivery: Delivery) -> None:
        holding.set()
        await asyncio.Event().wait()

    await _publish(own_bus, "default", "a")
    subjects = [streams.any_of("selm.feedback.created.default")]
    tasks = [
        asyncio.create_task(own_bus.consume("FEEDBACK", "busy", hold, subjects=subjects)),
        asyncio.create_task(
            own_bus.consume("TRAINING", "idle", hold, subjects=["selm.training.>"])
        ),
        asyncio.create_task(own_bus.subscribe_signals("selm.generation.abort.>", hold)),
    ]
    await asyncio.wait_for(holding.wait(), 20)
    nats_server.kill()
    for task in tasks:
        task.cancel()
    done, pending = await asyncio.wait(tasks, timeout=10)

    assert pending == set()
    assert all(task.cancelled() for task in done)


async def test_a_consumer_deleted_by_an_operator_is_bound_again(bus: Bus, tenant: str) -> None:
    """A pull that gets no heartbeat any more is noticed and replaced."""
    recorder = Recorder()
    with consuming(bus, tenant, recorder):
        await _publish(bus, tenant, "a")
        await eventually(recorder.has(1))
        await bus.connection.jetstream().delete_consumer("FEEDBACK", f"d-{tenant}")
        await _publish(bus, tenant, "b")

        async def has_b() -> bool:
            return "b" in {text for text, _ in recorder.seen}

        await eventually(has_b)


def _num_stalls() -> float:
    return float(REGISTRY.get_sample_value("selm_nats_consumer_stalled_total", _LABELS) or 0)


async def _pause(bus: Bus, tenant: str, until: datetime) -> None:
    subject = f"$JS.API.CONSUMER.PAUSE.FEEDBACK.d-{tenant}"
    request = json.dumps({"pause_until": until.isoformat()}).encode()
    reply = await bus.connection.client.request(subject, request, timeout=5)
    assert "error" not in json.loads(reply.data)


async def test_a_consumer_that_delivers_nothing_is_noticed_and_bound_again(
    bus: Bus, tenant: str
) -> None:
    """Heartbeats come, messages wait, none is delivered: counted, bound again, nothing lost."""
    recorder = Recorder()

    async def is_noticed_twice() -> bool:
        return _num_stalls() >= before + 2

    with consuming(bus, tenant, recorder, pending_look_s=0.5):
        await _publish(bus, tenant, "a")
        await eventually(recorder.has(1))
        before = _num_stalls()
        await _pause(bus, tenant, datetime.now(UTC) + timedelta(minutes=5))
        await _publish(bus, tenant, "b", "c")
        await eventually(is_noticed_twice)
        assert len(recorder.seen) == 1
        await _pause(bus, tenant, datetime.now(UTC) - timedelta(seconds=1))
        await eventually(recorder.has(3))

    assert recorder.seen == [("a", 1), ("b", 1), ("c", 1)]


async def test_waiting_for_an_acknowledgement_is_no_stall(bus: Bus, tenant: str) -> None:
    """In order, one message given back for a while keeps the others waiting, as it must."""
    recorder = Recorder(RuntimeError("first"), RuntimeError("second"), RuntimeError("third"))
    before = _num_stalls()
    await _publish(bus, tenant, "a", "b")
    with consuming(bus, tenant, recorder, is_in_order=True, pending_look_s=0.2):
        await eventually(recorder.has(5))

    assert [text for text, _ in recorder.seen] == ["a", "a", "a", "a", "b"]
    assert _num_stalls() == before
