"""Calls of feedback_svc as its users make them, and how they are refused."""

from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from selm import names
from selm.api.feedback.v1 import (
    feedback_event_pb2,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    learning_pb2,
    learning_service_pb2,
    learning_service_pb2_grpc,
    lesson_service_pb2,
    lesson_service_pb2_grpc,
)
from selm.testing import eventually


@dataclass(frozen=True)
class Refusal:
    """How a call failed, out of its status details."""

    code: grpc.StatusCode
    reason: str
    fields: list[str]
    retry_after_s: float | None


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    status = rpc_status.from_call(error)
    if status is None:
        # The process died: there is nobody left to say more.
        return Refusal(error.code(), "", [], None)
    info = error_details_pb2.ErrorInfo()
    fields = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    found = [type(d) for d in (info, fields, retry) if any(p.Unpack(d) for p in status.details)]
    return Refusal(
        error.code(),
        info.reason,
        [violation.field for violation in fields.field_violations],
        retry.retry_delay.ToTimedelta().total_seconds() if type(retry) in found else None,
    )


@dataclass
class Feedback:
    """A client of one feedback_svc, speaking for one tenant."""

    channel: grpc.aio.Channel
    tenant: str
    feedback: Any = field(init=False)
    lessons: Any = field(init=False)
    learning: Any = field(init=False)

    def __post_init__(self) -> None:
        self.feedback = feedback_service_pb2_grpc.FeedbackServiceStub(self.channel)
        self.lessons = lesson_service_pb2_grpc.LessonServiceStub(self.channel)
        self.learning = learning_service_pb2_grpc.LearningServiceStub(self.channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-selm-tenant", self.tenant),)

    async def refusal(self, call: Any) -> Refusal:
        """How a call fails; it is an error if it does not."""
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
        raise AssertionError("the call succeeded")

    async def create(self, request_id: str = "", timeout: float = 10, **event: Any) -> Any:
        request = feedback_service_pb2.CreateFeedbackEventRequest(
            feedback_event=feedback_event_pb2.FeedbackEvent(**event), request_id=request_id
        )
        return await self.feedback.CreateFeedbackEvent(
            request, metadata=self.metadata, timeout=timeout
        )

    async def correct(self, generation: str, text: str, **more: Any) -> Any:
        correction = feedback_event_pb2.Correction(text=text, **more.pop("correction", {}))
        return await self.create(generation=generation, correction=correction, **more)

    async def event(self, name: str) -> Any:
        request = feedback_service_pb2.GetFeedbackEventRequest(name=name)
        reply = await self.feedback.GetFeedbackEvent(request, metadata=self.metadata, timeout=10)
        return reply.feedback_event

    async def lesson(self, name: str) -> Any:
        request = lesson_service_pb2.GetLessonRequest(name=name)
        reply = await self.lessons.GetLesson(request, metadata=self.metadata, timeout=10)
        return reply.lesson

    def watch(self, name: str) -> Any:
        request = lesson_service_pb2.WatchLessonRequest(name=name)
        return self.lessons.WatchLesson(request, metadata=self.metadata)

    async def train(
        self, adapter: str = names.DEFAULT_ADAPTER, request_id: str = "", **more: Any
    ) -> Any:
        wish = learning_pb2.TrainingRequest(adapter=adapter, **more)
        request = learning_service_pb2.CreateTrainingRequestRequest(
            training_request=wish, request_id=request_id
        )
        reply = await self.learning.CreateTrainingRequest(
            request, metadata=self.metadata, timeout=10
        )
        return reply.training_request

    async def training_request(self, name: str) -> Any:
        request = learning_service_pb2.GetTrainingRequestRequest(name=name)
        reply = await self.learning.GetTrainingRequest(request, metadata=self.metadata, timeout=10)
        return reply.training_request

    async def stats(self, adapter: str = "") -> Any:
        request = learning_service_pb2.GetQueueStatsRequest(adapter=adapter)
        reply = await self.learning.GetQueueStats(request, metadata=self.metadata, timeout=10)
        return list(reply.stats)

    async def wait_ready(self) -> "Feedback":
        async def answers() -> bool:
            try:
                await self.stats()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            return True

        await eventually(answers, timeout_s=30)
        return self
