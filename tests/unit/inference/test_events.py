"""Finished generations wait for the broker within a bound and never hold up an answer."""

from datetime import UTC, datetime
from pathlib import Path

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
from selm.bus import Bus
from selm.settings import SharedSettings

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


async def test_oldest_is_dropped_when_too_many_wait(tmp_path: Path, free_port: int) -> None:
    """Without a broker publishing returns at once, whatever the number."""
    shared = SharedSettings(nats_url=f"nats://127.0.0.1:{free_port}", data_dir=tmp_path)
    async with Bus.open(shared, "test") as bus:
        publisher = GenerationPublisher(bus, Renderer(FACTS, "r"), max_waiting=3)
        for number in range(5):
            publisher.publish(record(f"g{number}"))

        waiting = [item.started.generation_id for item in publisher._waiting]

    assert waiting == ["g2", "g3", "g4"]


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
