"""Lets requests into the work queue, the most urgent of a tenant first, and takes them out again.

At most one request of a tenant waits in the queue untaken; the others wait here, where priority
still counts. Each step is written down before it is taken, so whoever comes after a crash finishes
it:
    READY --RELEASING--> RELEASED      the message is stored once per release
    RELEASED --RECALLING--> READY      only if no trainer was handed it; else it is put back, and
                                       the trainer's job, one per request, counts once
A request that is to be cancelled ends here if no trainer ever saw it. Otherwise a mark tells the
trainers, and the job says how it ended: there is one final state.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from feedback_svc import core, learning
from feedback_svc.learning import RequestState, Stage, TrainingRequest
from feedback_svc.training.maker import Maker
from feedback_svc.training.marks import CancellationMarks
from feedback_svc.training.requests import RequestBook
from feedback_svc.training.work_queue import WorkQueue
from selm.lessons import LessonState, LessonStep
from selm.log import get_logger
from selm.testing import failpoint

_log = get_logger("feedback_svc.dispatcher")

ShareOf = Callable[[str, str], float]
Held = Callable[[TrainingRequest], str]


class Dispatcher:
    """Moves requests between READY and the work queue."""

    def __init__(
        self,
        requests: RequestBook,
        queue: WorkQueue,
        maker: Maker,
        marks: CancellationMarks,
        held_by: Held,
        share_of: ShareOf,
    ) -> None:
        """`held_by` says why a request may not run yet; `share_of` is the limit per author."""
        self._requests = requests
        self._queue = queue
        self._maker = maker
        self._marks = marks
        self._held_by = held_by
        self._share_of = share_of
        # One step at a time in this process; other replicas are met by compare-and-set.
        self._turn = asyncio.Lock()

    async def upkeep(self) -> None:
        """Finish what was begun, then let in whatever may go next."""
        for request in self._requests.unfinished():
            async with self._turn:
                await self._finish(request)
        for tenant in {view.request.tenant for view in self._requests.open_views()}:
            await self.dispatch(tenant)

    async def dispatch(self, tenant: str) -> None:
        """Release the tenant's next request, unless one as urgent waits in the queue untaken."""
        async with self._turn:
            waiting = [
                view.request
                for view in self._requests.open_views()
                if view.request.tenant == tenant
                and view.state is RequestState.WAITING
                and not view.request.canceller
            ]
            ready = [r for r in waiting if r.stage is Stage.READY and not self._held_by(r)]
            if not ready:
                return
            following = min(ready, key=_turn_of)
            for standing in await self._standing(waiting):
                if standing.priority >= following.priority or not await self._recall(standing):
                    return
            await self._release(following)

    async def cancel(self, request: TrainingRequest, who: str) -> None:
        """Begin to end it; done at once if no trainer was handed it."""
        async with self._turn:
            request = await self._requests.change(
                request, lambda r: r if r.canceller else replace(r, canceller=who)
            )
            failpoint("feedback.after_cancel")
            await self._finish(request)

    async def release_again(self, request: TrainingRequest) -> None:
        """Put one into the queue that the trainers' consumer had given up."""
        async with self._turn:
            request = await self._requests.change(
                request,
                lambda r: replace(r, stage=Stage.RELEASING, num_releases=r.num_releases + 1),
            )
            share = self._share_of(request.tenant, request.adapter)
            sequence = await self._queue.put(request, share)
            await self._requests.change(request, _released(sequence))

    async def _finish(self, request: TrainingRequest) -> None:
        if request.stage is Stage.NEW:
            request = await self._maker.tell(request)
        if request.stage is Stage.RELEASING:
            request = await self._put(request)
        if request.stage is Stage.RECALLING:
            await self._recall(request)
            request = self._now(request)
        if request.canceller:
            await self._cancel(request)

    async def _cancel(self, request: TrainingRequest) -> None:
        view = self._requests.view(request)
        if not view.state.is_open:
            await self._marks.clear(request)
            await self._requests.change(request, lambda r: replace(r, canceller=""))
            return
        if request.stage is Stage.RELEASED and view.job is None:
            is_untaken = await self._queue.waits(request.sequence)
            if is_untaken and await self._recall(request):
                request = self._now(request)
        if request.stage is Stage.READY:
            await self._conclude(request)
        else:
            await self._marks.set(request)

    async def _conclude(self, request: TrainingRequest) -> None:
        """Nobody else can end it. Its lessons first: an ended request is looked at no more."""
        now = datetime.now(UTC)
        why = f"{request.name} was cancelled"
        step = LessonStep(LessonState.REMEMBERED, core.SERVICE, request.name, why, now)
        await self._maker.give_back(request, step)
        failpoint("feedback.after_give_back")
        await self._requests.change(request, _cancelled(now))
        _log.info("training_request_cancelled", request=request.name, who=request.canceller)

    async def _standing(self, waiting: list[TrainingRequest]) -> list[TrainingRequest]:
        """Those in the queue that no trainer has taken."""
        released = [r for r in waiting if r.stage is Stage.RELEASED]
        return [r for r in released if await self._queue.waits(r.sequence)]

    async def _release(self, request: TrainingRequest) -> None:
        request = await self._requests.change(request, _releasing)
        if request.stage is Stage.RELEASING:
            await self._put(request)

    async def _put(self, request: TrainingRequest) -> TrainingRequest:
        sequence = 0
        if self._requests.view(request).state is RequestState.WAITING:
            share = self._share_of(request.tenant, request.adapter)
            failpoint("feedback.before_training_requested")
            sequence = await self._queue.put(request, share)
            failpoint("feedback.after_training_requested")
        return await self._requests.change(request, _released(sequence))

    async def _recall(self, request: TrainingRequest) -> bool:
        """True if it is READY again; False if a trainer may have it."""
        request = await self._requests.change(request, _recalling)
        if request.stage is not Stage.RECALLING:
            return False
        is_out = await self._queue.withdraw(request.sequence)
        failpoint("feedback.after_withdraw")
        if is_out:
            request = await self._requests.change(request, _recalled)
            return request.stage is Stage.READY
        # A trainer that was handed it and dies would be its last one: nothing is there to deliver.
        request = await self._requests.change(request, _releasing)
        if request.stage is Stage.RELEASING:
            await self._put(request)
        return False

    def _now(self, request: TrainingRequest) -> TrainingRequest:
        view: learning.RequestView | None = self._requests.peek(request.tenant, request.name)
        return view.request if view else request


def _turn_of(request: TrainingRequest) -> tuple[int, datetime, str]:
    return -request.priority, request.create_time, request.request_id


def _releasing(request: TrainingRequest) -> TrainingRequest:
    is_wanted = request.stage is Stage.RECALLING or (
        request.stage is Stage.READY and not request.canceller
    )
    if not is_wanted or request.outcome is not None:
        return request
    return replace(
        request, stage=Stage.RELEASING, sequence=0, num_releases=request.num_releases + 1
    )


def _released(sequence: int) -> Callable[[TrainingRequest], TrainingRequest]:
    def change(request: TrainingRequest) -> TrainingRequest:
        if request.stage is not Stage.RELEASING:
            return request
        return replace(request, stage=Stage.RELEASED, sequence=sequence)

    return change


def _recalling(request: TrainingRequest) -> TrainingRequest:
    if request.stage is not Stage.RELEASED:
        return request
    return replace(request, stage=Stage.RECALLING)


def _recalled(request: TrainingRequest) -> TrainingRequest:
    if request.stage is not Stage.RECALLING:
        return request
    return replace(request, stage=Stage.READY, sequence=0)


def _cancelled(now: datetime) -> Callable[[TrainingRequest], TrainingRequest]:
    def change(request: TrainingRequest) -> TrainingRequest:
        if request.stage is not Stage.READY or request.outcome is not None:
            return request
        return replace(request, outcome=RequestState.CANCELLED, outcome_time=now, canceller="")

    return change
