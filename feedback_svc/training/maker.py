"""Makes requests exist, marks their lessons QUEUED, and gives lessons back.

A request exists from the moment RequestBook.create returns. What has to follow is repeated until
done, so a crash or an outage in between delays a request and never loses or doubles it.
"""

from dataclasses import replace

from feedback_svc import core, learning
from feedback_svc.learning import Stage
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from feedback_svc.training.metrics import TRAINING_REQUESTS
from feedback_svc.training.requests import RequestBook
from selm.lessons import LessonState, LessonStep
from selm.log import get_logger
from selm.testing import failpoint

_NOT_YET = frozenset({LessonState.RECEIVED, LessonState.REMEMBERED, LessonState.QUEUED})
_log = get_logger("feedback_svc.maker")


class Maker:
    """Writes requests and what their lessons are told of them."""

    def __init__(self, stream: EventStream, journal: Journal, requests: RequestBook) -> None:
        self._stream = stream
        self._journal = journal
        self._requests = requests

    async def make(self, wish: learning.TrainingRequest) -> learning.TrainingRequest:
        """The request, READY; or the one of its adapter that waits already."""
        request = await self._requests.create(wish)
        if request.request_id == wish.request_id:
            TRAINING_REQUESTS.labels(trigger=request.trigger.name).inc()
            _log.info("training_requested", request=request.name, num_lessons=len(request.lessons))
        failpoint("feedback.after_request")
        return await self.tell(request)

    async def tell(self, request: learning.TrainingRequest) -> learning.TrainingRequest:
        """QUEUED before the request is released: no step of the trainer can come before it."""
        if request.stage is not Stage.NEW:
            return request
        if self._requests.view(request).job is None:
            step = LessonStep(
                LessonState.QUEUED, core.SERVICE, request.name, "", request.create_time
            )
            for name in request.lessons:
                await self._step(request.tenant, name, step)
        return await self._requests.change(
            request, lambda r: replace(r, stage=Stage.READY) if r.stage is Stage.NEW else r
        )

    async def give_back(self, request: learning.TrainingRequest, step: LessonStep) -> None:
        """Its lessons wait again, those that no other request or revision has by now."""
        for name in request.lessons:
            lesson = self._journal.book.find(request.tenant, name)
            if lesson is None or lesson.state not in _NOT_YET:
                continue
            is_anothers = lesson.state is LessonState.QUEUED and (
                lesson.training_request != request.name
            )
            if not is_anothers:
                await self._step(request.tenant, name, step)

    async def _step(self, tenant: str, name: str, step: LessonStep) -> None:
        lesson = self._journal.book.find(tenant, name)
        if lesson is not None:
            await self._stream.announce_step(lesson, step)
