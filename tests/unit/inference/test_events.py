"""Finished generations wait for the broker within a bound and never hold up an answer."""

import asyncio
from datetime import UTC, datetime

from inference_svc.core import (
    Ask,
    MemoryOptions,
    MemoryState,
    Message,
    ModelFacts,
    Plan,
    Recollection,
    Record,
    Sampling,
    Started,
)
from inference_svc.events import GenerationPublisher
from inference_svc.render import Renderer
from inference_svc.revisions import AdapterReason, Selection, Selector
from selm.api.inference.v1 import generation_pb2
from selm.errors import SelmError

FACTS = ModelFacts("models/m", "m", "ab", "", "float32", "cpu", 2048, 100, 3, ("q_proj",), 8, 4)


def record(generation_id: str, store: bool = True) -> Record:
    ask = Ask(
        messages=(Message("user", "hello"),),
        prompt="",
        selector=Selector(),
        sampling=Sampling(),
        memory=MemoryOptions(),
        tenant="default",
        user="users/u",
        store=store,
    )
    started = Started(
        generation_id,
        Selection(None, reason=AdapterReason.NOTHING_PROMOTED),
        Plan(False, AdapterReason.NOTHING_PROMOTED),
        Recollection(MemoryState.READY),
        input_tokens=3,
        seed=1,
    )
    return Record(ask, started, None, "half an ans", datetime.now(UTC), "CANCELLED")


class Broker:
    """Keeps what is published; away as long as it is told so."""

    def __init__(self) -> None:
        self.is_away = True
        self.subjects: list[str] = []

    async def publish(self, subject: str, message: object, *, message_id: str) -> None:
        if self.is_away:
            raise SelmError("BUS_UNAVAILABLE", "away")
        self.subjects.append(subject)


async def test_oldest_is_dropped_when_too_many_wait() -> None:
    """Without a broker publishing returns at once; the newest three are there when it is back."""
    broker = Broker()
    publisher = GenerationPublisher(broker, Renderer(FACTS, "r"), max_waiting=3)
    for number in range(5):
        publisher.publish(record(f"g{number}"))
    broker.is_away = False
    running = asyncio.create_task(publisher.run())
    await publisher.flush()
    running.cancel()

    assert broker.subjects == [f"selm.generation.finished.default.g{n}" for n in (2, 3, 4)]


def test_cancelled_generation_keeps_what_was_said() -> None:
    """The event says CANCELLED and holds the text so far; no finish reason is invented."""
    event = Renderer(FACTS, "r").event(record("g1"))

    assert event.status_code == "CANCELLED"
    assert event.generation.candidates[0].text == "half an ans"
    assert event.generation.candidates[0].finish_reason == 0
    assert event.generation.resolution.adapter_reason == (
        generation_pb2.ADAPTER_REASON_NOTHING_PROMOTED
    )


def test_content_that_shall_not_be_stored_is_left_out() -> None:
    """store=false: names and numbers only."""
    event = Renderer(FACTS, "r").event(record("g1", store=False))

    assert not event.generation.HasField("input")
    assert event.generation.candidates[0].text == ""
    assert event.generation.user == "users/u"
