"""Calls of DatasetService as its users make them."""

import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from nats.js.errors import NotFoundError

from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import dataset_pb2, dataset_service_pb2_grpc, feedback_event_pb2
from selm.api.feedback.v1 import dataset_service_pb2 as pb
from selm.api.feedback.v1 import feedback_service_pb2 as feedback_pb
from selm.names import DEFAULT_ADAPTER
from selm.streams import ARTIFACTS_BUCKET
from tests.integration.feedback.review_client import Person

Format = pb.ExportDatasetRequest
Filter = feedback_event_pb2.FeedbackFilter
UP, DOWN = feedback_event_pb2.THUMBS_UP, feedback_event_pb2.THUMBS_DOWN
ERASED = dataset_pb2.Dataset.STATE_ERASED


@dataclass
class Datasets:
    """A client of one DatasetService, speaking for one tenant."""

    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...]
    stub: Any = field(init=False)

    def __post_init__(self) -> None:
        self.stub = dataset_service_pb2_grpc.DatasetServiceStub(self.channel)

    async def call(self, method: str, **fields: Any) -> Any:
        request = getattr(pb, f"{method}Request")(**fields)
        return await getattr(self.stub, method)(request, metadata=self.metadata, timeout=20)

    async def freeze(
        self,
        dataset_id: str = "",
        request_id: str = "",
        adapter: str = DEFAULT_ADAPTER,
        labels: dict[str, str] | None = None,
        **spec: Any,
    ) -> Any:
        wanted = dataset_pb2.Dataset(
            adapter=adapter, spec=dataset_pb2.DatasetSpec(**spec), labels=labels
        )
        reply = await self.call(
            "CreateDataset", dataset=wanted, dataset_id=dataset_id, request_id=request_id
        )
        return reply.dataset

    async def get(self, name: str) -> Any:
        return (await self.call("GetDataset", name=name)).dataset

    async def examples(self, name: str, **fields: Any) -> list[Any]:
        return list((await self.call("ListDatasetExamples", parent=name, **fields)).examples)

    async def frames(self, name: str, **fields: Any) -> list[Any]:
        """Every frame of an export."""
        request = pb.ExportDatasetRequest(name=name, **fields)
        call = self.stub.ExportDataset(request, metadata=self.metadata, timeout=20)
        return [frame async for frame in call]

    async def lines(self, name: str, **fields: Any) -> list[Any]:
        return [json.loads(frame.json) for frame in await self.frames(name, **fields)]


async def say(person: Any, generation: str, **signal: Any) -> Any:
    """The event that any signal of a person became."""
    event = feedback_event_pb2.FeedbackEvent(generation=generation, **signal)
    request = feedback_pb.CreateFeedbackEventRequest(
        feedback_event=event, request_id=str(uuid.uuid4())
    )
    reply = await person.feedback.CreateFeedbackEvent(request, metadata=person.metadata, timeout=10)
    return reply.feedback_event


@pytest.fixture
def datasets(rita: Person) -> Datasets:
    return Datasets(rita.channel, rita.metadata)


@pytest.fixture
def elsewhere(nats_url: str, tenant: str, child: Callable[[str], Any], client_of: Any) -> Any:
    """`async with elsewhere(**settings) as (theirs, process)`: the datasets of another process."""

    @asynccontextmanager
    async def started(**settings: str) -> AsyncIterator[tuple[Datasets, Any]]:
        process = child(nats_url)
        await process.start(training_paused="true", **settings)
        async with client_of(process.address, tenant) as there:
            await there.wait_ready()
            yield Datasets(there.channel, there.metadata), process

    return started


async def teach(rita: Person, peers: Any, number: int, author: str = "anna") -> list[Any]:
    """So many corrections of different answers."""
    events = []
    for index in range(number):
        generation = await peers.generate(f"Who leads the town {author}{index}?")
        events.append(await rita.named(author).correct(generation, f"Mayor {index}"))
    return events


async def mix(rita: Person, peers: Any) -> None:
    """One example of each kind that trains."""
    anna = rita.named("anna")
    await anna.correct(await peers.generate("Who leads Aurum?"), "Ida")
    better = feedback_event_pb2.Preference(chosen_text="Bo leads it.", rejected_text="Nobody.")
    await say(anna, await peers.generate("Who leads Bolm?", "Nobody."), preference=better)
    await say(anna, await peers.generate("Who leads Carn?", "Cleo."), thumbs=DOWN)


def left_out(dataset: Any) -> dict[str, int]:
    return {
        ErrorReason.Name(e.reason).removeprefix("ERROR_REASON_"): e.feedback_count
        for e in dataset.exclusions
    }


async def chunks_with(bus: Any, text: bytes) -> list[Any]:
    """Messages of the object store that hold these bytes."""
    jetstream, stream = bus.connection.jetstream(), f"OBJ_{ARTIFACTS_BUCKET}"
    found = []
    state = (await jetstream.stream_info(stream)).state
    for sequence in range(state.first_seq, state.last_seq + 1):
        try:
            message = await jetstream.get_msg(stream, sequence)
        except NotFoundError:
            continue
        if text in (message.data or b""):
            found.append(message)
    return found
