"""Calls of DatasetService as its users make them."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import grpc

from selm.api.feedback.v1 import dataset_pb2, dataset_service_pb2_grpc, feedback_event_pb2
from selm.api.feedback.v1 import dataset_service_pb2 as pb
from selm.api.feedback.v1 import feedback_service_pb2 as feedback_pb
from selm.names import DEFAULT_ADAPTER

Format = pb.ExportDatasetRequest


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
