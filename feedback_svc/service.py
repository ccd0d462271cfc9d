"""The gRPC servicers: parse, call, render. No logic, no broker."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from feedback_svc import core, learning, wire
from feedback_svc.render import render_event, render_lesson, render_request, render_stats
from selm import consistency, names
from selm.api.feedback.v1 import (
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    learning_service_pb2,
    learning_service_pb2_grpc,
    lesson_service_pb2,
    lesson_service_pb2_grpc,
)
from selm.auth import current_principal

FEEDBACK_STREAM = "FEEDBACK"


class FeedbackService(feedback_service_pb2_grpc.FeedbackServiceServicer):
    """The record of what users say about answers."""

    def __init__(self, recorder: core.Recorder) -> None:
        self._recorder = recorder

    async def CreateFeedbackEvent(self, request: Any, context: Any) -> Any:
        draft, key = wire.parse_create(request, datetime.now(UTC))
        caller = current_principal()
        record = await self._recorder.record(caller.tenant, caller.subject, draft, key)
        return feedback_service_pb2.CreateFeedbackEventResponse(
            feedback_event=render_event(record),
            consistency_token=consistency.encode(FEEDBACK_STREAM, record.sequence),
        )

    async def GetFeedbackEvent(self, request: Any, context: Any) -> Any:
        name = wire.parse_name(names.FEEDBACK_EVENT, request.name)
        record = await self._recorder.get(current_principal().tenant, name)
        return feedback_service_pb2.GetFeedbackEventResponse(feedback_event=render_event(record))


class LessonService(lesson_service_pb2_grpc.LessonServiceServicer):
    """The receipt of a correction."""

    def __init__(self, lessons: learning.Lessons) -> None:
        self._lessons = lessons

    async def GetLesson(self, request: Any, context: Any) -> Any:
        name = wire.parse_name(names.LESSON, request.name)
        lesson, job = await self._lessons.get(current_principal().tenant, name)
        return lesson_service_pb2.GetLessonResponse(lesson=render_lesson(lesson, job))

    async def WatchLesson(self, request: Any, context: Any) -> AsyncIterator[Any]:
        name = wire.parse_name(names.LESSON, request.name)
        async with aclosing(self._lessons.watch(current_principal().tenant, name)) as frames:
            async for lesson, job in frames:
                yield lesson_service_pb2.WatchLessonResponse(lesson=render_lesson(lesson, job))


class LearningService(learning_service_pb2_grpc.LearningServiceServicer):
    """Asking to learn, and what waits."""

    def __init__(self, learning: learning.Learning) -> None:
        self._learning = learning

    async def CreateTrainingRequest(self, request: Any, context: Any) -> Any:
        wish, key = wire.parse_training_request(request)
        caller = current_principal()
        view = await self._learning.request(caller.tenant, caller.subject, wish, key)
        return learning_service_pb2.CreateTrainingRequestResponse(
            training_request=render_request(view)
        )

    async def GetTrainingRequest(self, request: Any, context: Any) -> Any:
        name = wire.parse_name(names.TRAINING_REQUEST, request.name)
        view = await self._learning.get(current_principal().tenant, name)
        return learning_service_pb2.GetTrainingRequestResponse(
            training_request=render_request(view)
        )

    async def GetQueueStats(self, request: Any, context: Any) -> Any:
        adapter = wire.parse_adapter_filter(request.adapter)
        numbers = await self._learning.stats(current_principal().tenant, adapter)
        return render_stats(numbers, datetime.now(UTC))
