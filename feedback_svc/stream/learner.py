"""Turns waiting lessons into training requests: by policy, or because somebody asks.

A request exists from the moment RequestBook.create returns. What has to follow (its lessons QUEUED,
the message to the trainers) is repeated by the loop until done, so a crash or an outage in between
delays a request and never loses or doubles it.
"""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from feedback_svc import core, learning
from feedback_svc.stream import policy
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.ledger import Ledger, LedgerEntry
from feedback_svc.stream.metrics import TRAINING_REQUESTS, WAITING_LESSONS
from feedback_svc.stream.requests import RequestBook
from selm import names
from selm.errors import SelmError, adapter_not_found, unavailable
from selm.lessons import LessonRecord, LessonState, LessonStep, live_lessons
from selm.log import get_logger
from selm.testing import failpoint

_log = get_logger("feedback_svc.learner")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Learner:
    """Fulfils learning.Learning and runs the policy."""

    def __init__(
        self,
        stream: EventStream,
        journal: Journal,
        requests: RequestBook,
        ledger: Ledger,
        settings: learning.PolicySettings,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._stream = stream
        self._journal = journal
        self._requests = requests
        self._ledger = ledger
        self._settings = settings
        self._now = now

    async def run(self, interval_s: float) -> None:
        """Look again and again until cancelled; an outage only delays what is decided."""
        while True:
            await asyncio.sleep(interval_s)
            if not (self._journal.is_ready and self._requests.is_ready):
                continue
            try:
                await self.tick()
            except SelmError as error:
                _log.warning("policy_waits", error=str(error))

    async def tick(self) -> None:
        """Finish what was begun, then ask for what the policy wants."""
        for request in self._requests.unannounced():
            await self._announce(request)
        book, num_waiting = self._journal.book, 0
        for tenant, adapter in book.open_groups():
            lessons = tuple(book.open_lessons(tenant, adapter))
            num_waiting += len(policy.waiting(lessons))
            trigger = policy.decide(
                self._settings, self._situation(tenant, adapter, lessons), self._now()
            )
            if trigger is not None:
                await self._ask(tenant, adapter, trigger, policy.waiting(lessons))
        WAITING_LESSONS.set(num_waiting)

    async def request(
        self, tenant: str, requester: str, wish: learning.TrainingWish, key: core.RequestKey | None
    ) -> learning.RequestView:
        """A request made now, or the one that learns the same already."""
        self._require_ready()
        entry = await self._ledger.find(tenant, key) if key else None
        if entry is not None and (earlier := await self._earlier(tenant, entry)) is not None:
            return earlier
        await self._journal.catch_up(tenant)
        if not await self._stream.adapter_exists(tenant, wish.adapter):
            raise adapter_not_found(wish.adapter)
        request = self._open_request(tenant, wish)
        if request is None:
            new = self._manual(tenant, requester, wish, key)
            if key is not None:
                await self._ledger.intend(tenant, key, new.name)
            request = await self._create(new)
        if key is not None:
            await self._ledger.complete(tenant, key, request.name)
        return self._requests.view(request)

    async def _earlier(self, tenant: str, entry: LedgerEntry) -> learning.RequestView | None:
        """The request that an earlier attempt made; None if it never came to that."""
        try:
            return await self._requests.find(tenant, entry.resource)
        except SelmError as error:
            if error.reason != "RESOURCE_NOT_FOUND" or entry.is_done:
                raise
            return None

    async def get(self, tenant: str, name: str) -> learning.RequestView:
        self._require_ready()
        return await self._requests.find(tenant, name)

    async def stats(self, tenant: str, adapter: str) -> list[learning.QueueNumbers]:
        self._require_ready()
        learning = {a for owner, a in self._journal.book.open_groups() if owner == tenant}
        adapters = learning | self._requests.adapters(tenant)
        wanted = sorted(a for a in adapters if adapter in ("", a))
        return [self._numbers(tenant, a) for a in wanted]

    def _numbers(self, tenant: str, adapter: str) -> learning.QueueNumbers:
        lessons = policy.waiting(self._journal.book.open_lessons(tenant, adapter))
        views = self._requests.views(tenant, adapter)
        running = [v for v in views if v.state is learning.RequestState.RUNNING]
        ages = [(self._now() - lesson.create_time).total_seconds() for lesson in lessons]
        return learning.QueueNumbers(
            adapter=adapter,
            kind=core.Kind.CORRECTION,
            num_waiting_lessons=len(lessons),
            num_waiting_requests=sum(v.state is learning.RequestState.WAITING for v in views),
            num_running_requests=len(running),
            oldest_age_s=max([0.0, *ages]),
            num_redeliveries=sum(max(0, v.job.num_attempts - 1) for v in running if v.job),
            num_dead_letters=self._requests.num_dead_letters(tenant, adapter),
        )

    def _require_ready(self) -> None:
        self._journal.require_ready()
        if not self._requests.is_ready:
            raise unavailable("STARTING", "training requests are being read", waiting_for="replay")

    def _situation(
        self, tenant: str, adapter: str, lessons: tuple[LessonRecord, ...]
    ) -> policy.Situation:
        views = self._requests.views(tenant, adapter)
        return policy.Situation(
            lessons=lessons,
            has_waiting_request=any(v.state is learning.RequestState.WAITING for v in views),
            last_request_time=views[-1].request.create_time if views else None,
        )

    def _open_request(
        self, tenant: str, wish: learning.TrainingWish
    ) -> learning.TrainingRequest | None:
        """The request that waits; or, if nothing else is to be learned, the one that runs."""
        views = [v for v in self._requests.views(tenant, wish.adapter) if v.state.is_open]
        queued = [v for v in views if v.state is learning.RequestState.WAITING]
        if queued:
            return queued[0].request
        if views and not wish.from_base and not self._coverable(tenant, wish.adapter):
            return views[-1].request
        return None

    def _manual(
        self, tenant: str, requester: str, wish: learning.TrainingWish, key: core.RequestKey | None
    ) -> learning.TrainingRequest:
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
        return learning.TrainingRequest(
            tenant=tenant,
            request_id=_request_id(tenant, key),
            adapter=wish.adapter,
            trigger=learning.Trigger.MANUAL,
            requester=requester,
            lessons=tuple(lesson.name for lesson in lessons),
            create_time=self._now(),
            from_base=wish.from_base,
            reason=wish.reason,
        )

    def _coverable(self, tenant: str, adapter: str) -> list[LessonRecord]:
        """What a manual request covers: also lessons that an ended request left behind."""
        lessons = tuple(self._journal.book.open_lessons(tenant, adapter))
        return policy.waiting(lessons) + [x for x in lessons if self._is_left_behind(x)]

    def _is_left_behind(self, lesson: LessonRecord) -> bool:
        if lesson.state is not LessonState.QUEUED:
            return False
        view = self._requests.peek(lesson.tenant, lesson.training_request)
        return view is None or not view.state.is_open

    async def _ask(
        self, tenant: str, adapter: str, trigger: learning.Trigger, lessons: list[LessonRecord]
    ) -> None:
        await self._create(
            learning.TrainingRequest(
                tenant=tenant,
                request_id=names.new_id(),
                adapter=adapter,
                trigger=trigger,
                requester=learning.POLICY_REQUESTER,
                lessons=tuple(lesson.name for lesson in lessons),
                create_time=self._now(),
            )
        )

    async def _create(self, wish: learning.TrainingRequest) -> learning.TrainingRequest:
        request = await self._requests.create(wish)
        if request.request_id == wish.request_id:
            TRAINING_REQUESTS.labels(trigger=request.trigger.name).inc()
            _log.info("training_requested", request=request.name, num_lessons=len(request.lessons))
        failpoint("feedback.after_request")
        if not request.announced:
            await self._announce(request)
        return request

    async def _announce(self, request: learning.TrainingRequest) -> None:
        """Put a request into the work queue and note it; one that a job works on was there."""
        if self._requests.view(request).state is learning.RequestState.WAITING:
            await self._publish(request)
        await self._requests.mark_announced(request)

    async def _publish(self, request: learning.TrainingRequest) -> None:
        """QUEUED first, so that no step of the trainer can come before it."""
        step = LessonStep(LessonState.QUEUED, core.SERVICE, request.name, "", request.create_time)
        for name in request.lessons:
            lesson = self._journal.book.find(request.tenant, name)
            if lesson is not None:
                await self._stream.announce_step(lesson, step)
        await self._stream.announce_request(request)
        failpoint("feedback.after_training_requested")


def _request_id(tenant: str, key: core.RequestKey | None) -> str:
    """Derived from the caller's id, so that a repeat after a crash asks for the same request."""
    if key is None:
        return names.new_id()
    return hashlib.sha256(f"{tenant}\0training_request\0{key.request_id}".encode()).hexdigest()[:32]
