"""Looks at what waits, again and again, and asks for training where a policy wants it."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from feedback_svc import learning
from feedback_svc.learning import RequestState, TrainingPolicy, Trigger
from feedback_svc.stream.journal import Journal
from feedback_svc.training import rules
from feedback_svc.training.clockwork import Clockwork
from feedback_svc.training.dispatcher import Dispatcher
from feedback_svc.training.maker import Maker
from feedback_svc.training.requests import RequestBook
from selm import names
from selm.errors import SelmError
from selm.lessons import LessonRecord
from selm.log import get_logger

_log = get_logger("feedback_svc.learner")


def utc_now() -> datetime:
    return datetime.now(UTC)


class Learner:
    """Runs the policies."""

    def __init__(
        self,
        journal: Journal,
        requests: RequestBook,
        policies: learning.Policies,
        clockwork: Clockwork,
        maker: Maker,
        dispatcher: Dispatcher,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._journal = journal
        self._requests = requests
        self._policies = policies
        self._clockwork = clockwork
        self._maker = maker
        self._dispatcher = dispatcher
        self._now = now

    async def run(self, interval_s: float) -> None:
        """Until cancelled; an outage only delays what is decided."""
        while True:
            await asyncio.sleep(interval_s)
            if not (self._journal.is_ready and self._requests.is_ready):
                continue
            try:
                await self.tick()
            except SelmError as error:
                _log.warning("policy_waits", error=str(error))

    async def tick(self) -> None:
        """Finish what was begun, then ask for what the policies want."""
        await self._dispatcher.upkeep()
        for tenant, adapter in self._journal.book.open_groups():
            await self._look_at(tenant, adapter)

    async def _look_at(self, tenant: str, adapter: str) -> None:
        policy, now = self._policies.policy_of(tenant, adapter), self._now()
        lessons = tuple(self._journal.book.open_lessons(tenant, adapter))
        waiting = rules.waiting(lessons)
        oldest = min((lesson.create_time for lesson in waiting), default=now)
        due = await self._clockwork.due(tenant, adapter, policy, oldest, now)
        views = self._requests.views(tenant, adapter)
        situation = rules.Situation(
            lessons=lessons,
            has_waiting_request=any(v.state is RequestState.WAITING for v in views),
            last_request_time=views[-1].request.create_time if views else None,
            is_due=due is not None,
        )
        trigger = rules.decide(policy, situation, now)
        if trigger is not None:
            await self._ask(tenant, adapter, trigger, waiting, due)
        if due is not None and not _is_put_off(policy, situation, trigger):
            await self._clockwork.heed(tenant, adapter, now)

    async def _ask(
        self,
        tenant: str,
        adapter: str,
        trigger: Trigger,
        lessons: list[LessonRecord],
        due: datetime | None,
    ) -> None:
        is_scheduled = trigger is Trigger.SCHEDULE and due is not None
        request_id = _id_of_minute(tenant, adapter, due) if due and is_scheduled else names.new_id()
        if is_scheduled and await self._was_made(tenant, request_id):
            # A crash came before the minute was noted as heeded.
            return
        await self._maker.make(
            learning.TrainingRequest(
                tenant=tenant,
                request_id=request_id,
                adapter=adapter,
                trigger=trigger,
                requester=learning.POLICY_REQUESTER,
                lessons=tuple(lesson.name for lesson in lessons),
                create_time=self._now(),
            )
        )
        await self._dispatcher.dispatch(tenant)

    async def _was_made(self, tenant: str, request_id: str) -> bool:
        try:
            await self._requests.find(tenant, names.training_request_name(request_id))
        except SelmError as error:
            if error.reason != "RESOURCE_NOT_FOUND":
                raise
            return False
        return True


def _is_put_off(
    policy: TrainingPolicy, situation: rules.Situation, trigger: Trigger | None
) -> bool:
    """The minute came, lessons wait, and only the cool-down keeps them from being learned now."""
    is_wanted = bool(rules.waiting(situation.lessons)) and not situation.has_waiting_request
    return trigger is None and is_wanted and not policy.paused


def _id_of_minute(tenant: str, adapter: str, due: datetime) -> str:
    """The same minute of a schedule asks for the same request, in every process."""
    text = f"{tenant}\0{adapter}\0{due.isoformat()}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
