"""Lessons beside the jobs that work on them: what LessonService shows. Fulfils learning.Lessons."""

import contextlib
from collections.abc import AsyncGenerator

from feedback_svc import learning
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.requests import RequestBook
from selm.lessons import LessonRecord


class LessonViews:
    """Joins Journal and RequestBook; holds nothing itself."""

    def __init__(self, journal: Journal, requests: RequestBook) -> None:
        self._journal = journal
        self._requests = requests

    async def get(self, tenant: str, name: str) -> learning.LessonView:
        return self._view(await self._journal.find_lesson(tenant, name))

    async def watch(self, tenant: str, name: str) -> AsyncGenerator[learning.LessonView, None]:
        async with contextlib.aclosing(self._journal.watch_lesson(tenant, name)) as lessons:
            async for lesson in lessons:
                yield self._view(lesson)

    def _view(self, lesson: LessonRecord) -> learning.LessonView:
        return lesson, self._requests.job_of(lesson.tenant, lesson.training_request)
