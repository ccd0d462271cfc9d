"""Lessons beside the jobs that work on them: what LessonService shows. Fulfils learning.Lessons."""

import contextlib
from collections.abc import AsyncGenerator
from datetime import datetime
from itertools import islice

from feedback_svc import learning
from feedback_svc.lesson_filter import matches_lesson
from feedback_svc.stream.journal import Journal
from feedback_svc.training.requests import RequestBook
from selm.lessons import LessonRecord


class LessonViews:
    """Joins Journal and RequestBook; holds nothing itself."""

    def __init__(self, journal: Journal, requests: RequestBook) -> None:
        self._journal = journal
        self._requests = requests

    async def get(self, tenant: str, name: str) -> learning.LessonView:
        return self._view(await self._journal.find_lesson(tenant, name))

    async def list(
        self,
        tenant: str,
        wanted: learning.LessonFilter,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[learning.LessonView]:
        await self._journal.catch_up(tenant)
        lessons = sorted(self._journal.book.all_of(tenant), key=_place, reverse=True)
        views = (self._view(one) for one in lessons if before is None or _place(one) < before)
        return list(islice((view for view in views if matches_lesson(view, wanted)), limit))

    async def watch(self, tenant: str, name: str) -> AsyncGenerator[learning.LessonView, None]:
        async with contextlib.aclosing(self._journal.watch_lesson(tenant, name)) as lessons:
            async for lesson in lessons:
                yield self._view(lesson)

    def _view(self, lesson: LessonRecord) -> learning.LessonView:
        return lesson, self._requests.job_of(lesson.tenant, lesson.training_request)


def _place(lesson: LessonRecord) -> tuple[datetime, str]:
    return lesson.update_time, lesson.name
