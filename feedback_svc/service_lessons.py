"""The servicer of lessons: parse, call, render. No logic, no broker."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from feedback_svc import learning
from feedback_svc.access import guarded, require_read
from feedback_svc.render.lessons import render_lesson
from feedback_svc.wire.checks import parse_name
from feedback_svc.wire.lists import parse_list_lessons
from selm import names
from selm.api.feedback.v1 import lesson_service_pb2, lesson_service_pb2_grpc
from selm.auth import current_principal


@guarded
class LessonService(lesson_service_pb2_grpc.LessonServiceServicer):
    """The receipt of a correction."""

    def __init__(self, lessons: learning.Lessons) -> None:
        self._lessons = lessons

    async def GetLesson(self, request: Any, context: Any) -> Any:
        name = parse_name(names.LESSON, request.name)
        caller = current_principal()
        lesson, job = await self._lessons.get(caller.tenant, name)
        require_read(caller, name, lesson.author, lesson.user)
        return lesson_service_pb2.GetLessonResponse(lesson=render_lesson(lesson, job))

    async def ListLessons(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        page = parse_list_lessons(request, tenant)
        found = await self._lessons.list(tenant, page.wanted, page.start, page.limit)
        lessons, token = page.of(found, lambda view: render_lesson(*view))
        return lesson_service_pb2.ListLessonsResponse(lessons=lessons, next_page_token=token)

    async def WatchLesson(self, request: Any, context: Any) -> AsyncIterator[Any]:
        name = parse_name(names.LESSON, request.name)
        caller = current_principal()
        async with aclosing(self._lessons.watch(caller.tenant, name)) as frames:
            async for lesson, job in frames:
                require_read(caller, name, lesson.author, lesson.user)
                yield lesson_service_pb2.WatchLessonResponse(lesson=render_lesson(lesson, job))
