"""Calls about training requests: ask, look, reprioritise, cancel. Fulfils learning.Learning.

What it decides is durable before it answers; the dispatcher does what follows, now if it can.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice

from feedback_svc import core, learning
from feedback_svc.learning import RequestState, RequestView, TrainingRequest
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.ledger import Ledger, LedgerEntry
from feedback_svc.training import rules
from feedback_svc.training.dispatcher import Dispatcher, Held
from feedback_svc.training.learner import utc_now
from feedback_svc.training.maker import Maker
from feedback_svc.training.requests import RequestBook
from feedback_svc.training.stats import QueueCounter
from selm import names
from selm.errors import SelmError, adapter_not_found, unavailable
from selm.lessons import LessonRecord, LessonState, live_lessons

# A trainer that is told to stop needs about a second; a caller waits for it this long.
_CANCEL_WAIT_S = 5.0
_LOOK_S = 0.05


class Desk:
    """The requests of all tenants, as callers may handle them."""

    def __init__(
        self,
        stream: EventStream,
        journal: Journal,
        requests: RequestBook,
        ledger: Ledger,
        maker: Maker,
        dispatcher: Dispatcher,
        counter: QueueCounter,
        held_by: Held,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._stream = stream
        self._journal = journal
        self._requests = requests
        self._ledger = ledger
        self._maker = maker
        self._dispatcher = dispatcher
        self._counter = counter
        self._held_by = held_by
        self._now = now

    async def request(
        self, tenant: str, requester: str, wish: learning.TrainingWish, key: core.RequestKey | None
    ) -> RequestView:
        """A request made now, or the one that learns the same already."""
        self._require_ready()
        entry = await self._ledger.find(tenant, key) if key else None
        if entry is not None and (earlier := await self._earlier(tenant, entry)) is not None:
            return self._shown(earlier)
        await self._journal.catch_up(tenant)
        if not await self._stream.adapter_exists(tenant, wish.adapter):
            raise adapter_not_found(wish.adapter)
        request = self._open_request(tenant, wish)
        if request is None:
            new = self._manual(tenant, requester, wish, key)
            if key is not None:
                await self._ledger.intend(tenant, key, new.name)
            request = await self._maker.make(new)
        if request.is_automatic:
            request = await self._requests.change(request, lambda r: replace(r, is_urged=True))
        await self._dispatcher.dispatch(tenant)
        if key is not None:
            await self._ledger.complete(tenant, key, request.name)
        return await self.get(tenant, request.name)

    async def get(self, tenant: str, name: str) -> RequestView:
        self._require_ready()
        return self._shown(await self._requests.find(tenant, name))

    async def list(
        self,
        tenant: str,
        wanted: learning.RequestFilter,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> Sequence[RequestView]:
        self._require_ready()
        newest = sorted(self._requests.views(tenant, wanted.adapter), key=_place, reverse=True)
        found = (v for v in newest if not wanted.states or v.state in wanted.states)
        return [
            self._shown(v)
            for v in islice((v for v in found if before is None or _place(v) < before), limit)
        ]

    async def prioritise(
        self, tenant: str, name: str, priority: int | None, key: core.RequestKey | None
    ) -> RequestView:
        view = await self.get(tenant, name)
        if await self._is_done(tenant, key, name):
            return view
        if view.state is not RequestState.WAITING:
            raise _conflict(view, "change")
        if priority is not None:
            await self._requests.change(view.request, lambda r: replace(r, priority=priority))
            await self._dispatcher.dispatch(tenant)
        await self._complete(tenant, key, name)
        return await self.get(tenant, name)

    async def cancel(
        self, tenant: str, who: str, name: str, key: core.RequestKey | None
    ) -> RequestView:
        """CANCELLED, or as it stands where its trainer has not answered in time."""
        view = await self.get(tenant, name)
        if view.state is RequestState.CANCELLED or await self._is_done(tenant, key, name):
            return view
        if not view.state.is_open:
            raise _conflict(view, "cancel")
        await self._dispatcher.cancel(view.request, who)
        view = await self._once_final(tenant, name)
        if not view.state.is_open and view.state is not RequestState.CANCELLED:
            raise _conflict(view, "cancel")
        await self._dispatcher.dispatch(tenant)
        await self._complete(tenant, key, name)
        return view

    async def stats(self, tenant: str, adapter: str) -> Sequence[learning.QueueNumbers]:
        self._require_ready()
        return self._counter.count(tenant, adapter)

    async def _once_final(self, tenant: str, name: str) -> RequestView:
        deadline = asyncio.get_running_loop().time() + _CANCEL_WAIT_S
        while True:
            view = await self.get(tenant, name)
            if not view.state.is_open or asyncio.get_running_loop().time() > deadline:
                return view
            await asyncio.sleep(_LOOK_S)

    async def _is_done(self, tenant: str, key: core.RequestKey | None, name: str) -> bool:
        """Whether an earlier attempt under this request_id came to its end."""
        if key is None:
            return False
        entry = await self._ledger.find(tenant, key)
        if entry is None:
            entry = await self._ledger.intend(tenant, key, name)
        return entry.is_done

    async def _complete(self, tenant: str, key: core.RequestKey | None, name: str) -> None:
        if key is not None:
            await self._ledger.complete(tenant, key, name)

    def _shown(self, view: RequestView) -> RequestView:
        if view.state is not RequestState.WAITING:
            return view
        return replace(view, held_by=self._held_by(view.request))

    async def _earlier(self, tenant: str, entry: LedgerEntry) -> RequestView | None:
        """The request that an earlier attempt made; None if it never came to that."""
        try:
            return await self._requests.find(tenant, entry.resource)
        except SelmError as error:
            if error.reason != "RESOURCE_NOT_FOUND" or entry.is_done:
                raise
            return None

    def _require_ready(self) -> None:
        self._journal.require_ready()
        if not self._requests.is_ready:
            raise unavailable("STARTING", "training requests are being read", waiting_for="replay")

    def _open_request(self, tenant: str, wish: learning.TrainingWish) -> TrainingRequest | None:
        """The request that waits; or, if nothing else is to be learned, the one that runs."""
        views = [v for v in self._requests.views(tenant, wish.adapter) if v.state.is_open]
        views = [v for v in views if not v.request.canceller]
        queued = [v for v in views if v.state is RequestState.WAITING]
        if queued:
            return queued[0].request
        if views and not wish.from_base and not self._coverable(tenant, wish.adapter):
            return views[-1].request
        return None

    def _manual(
        self, tenant: str, requester: str, wish: learning.TrainingWish, key: core.RequestKey | None
    ) -> TrainingRequest:
        lessons = self._coverable(tenant, wish.adapter)
        learnable = lessons
        if wish.from_base:
            learnable = live_lessons(self._journal.book.all_of(tenant), wish.adapter)
        if not learnable:
            raise SelmError(
                "DATASET_EMPTY",
                f"nothing waits to be learned by {wish.adapter}",
                metadata={"adapter": wish.adapter},
            )
        return TrainingRequest(
            tenant=tenant,
            request_id=_request_id(tenant, key),
            adapter=wish.adapter,
            trigger=wish.trigger,
            requester=requester,
            lessons=tuple(lesson.name for lesson in lessons),
            create_time=self._now(),
            from_base=wish.from_base,
            reason=wish.reason,
            priority=wish.priority,
        )

    def _coverable(self, tenant: str, adapter: str) -> Sequence[LessonRecord]:
        """What a manual request covers: also lessons that an ended request left behind."""
        lessons = tuple(self._journal.book.open_lessons(tenant, adapter))
        return rules.waiting(lessons) + [x for x in lessons if self._is_left_behind(x)]

    def _is_left_behind(self, lesson: LessonRecord) -> bool:
        if lesson.state is not LessonState.QUEUED:
            return False
        view = self._requests.peek(lesson.tenant, lesson.training_request)
        return view is None or not view.state.is_open


def _place(view: RequestView) -> tuple[datetime, str]:
    return view.request.create_time, view.request.name


def _conflict(view: RequestView, action: str) -> SelmError:
    return SelmError(
        "STATE_CONFLICT",
        f"{view.request.name} is {view.state} already",
        metadata={
            "resource_name": view.request.name,
            "state": str(view.state),
            "action": action,
        },
        resource=view.request.name,
    )


def _request_id(tenant: str, key: core.RequestKey | None) -> str:
    """Derived from the caller's id, so that a repeat after a crash asks for the same request."""
    if key is None:
        return names.new_id()
    return hashlib.sha256(f"{tenant}\0training_request\0{key.request_id}".encode()).hexdigest()[:32]
