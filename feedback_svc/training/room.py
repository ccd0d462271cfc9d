"""The parts of this room wired together on a bus; part of the composition root, opens nothing."""

from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from feedback_svc import learning
from feedback_svc.stream.jetstream import Codec, EventStream
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.ledger import Ledger
from feedback_svc.training import marks, policies, request_store, rules
from feedback_svc.training.budget import held_by_budget
from feedback_svc.training.clockwork import Clockwork
from feedback_svc.training.desk import Desk
from feedback_svc.training.dispatcher import Dispatcher
from feedback_svc.training.learner import Learner
from feedback_svc.training.letter_desk import LetterDesk, Parts
from feedback_svc.training.letters import BUCKET as LETTERS
from feedback_svc.training.letters import LetterBook
from feedback_svc.training.maker import Maker
from feedback_svc.training.requests import RequestBook
from feedback_svc.training.stats import QueueCounter
from feedback_svc.training.work_queue import WorkQueue
from selm.bus import Bus
from selm.lessons import live_lessons


class TrainingBooks:
    """What is known of policies, requests and dead letters; others read it too."""

    def __init__(
        self,
        bus: Bus,
        codec: Codec,
        stream: EventStream,
        defaults: learning.TrainingPolicy,
        timeout_s: float,
    ) -> None:
        self.ledger = Ledger(bus.kv(request_store.BUCKET), timeout_s)
        self.letters = LetterBook(bus, bus.kv(LETTERS), codec, timeout_s)
        self.requests = RequestBook(bus.kv(request_store.BUCKET), codec, self.letters)
        self.policies = policies.PolicyBook(
            bus.kv(policies.BUCKET), stream, self.ledger, defaults, timeout_s
        )
        self._bus = bus

    @property
    def is_ready(self) -> bool:
        return self.letters.is_ready and self.requests.is_ready and self.policies.is_ready

    def followers(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the calls, each until cancelled."""
        followers = [*self.letters.followers(), *self.requests.followers(self._bus)]
        return [*followers, self.policies.follow()]


class TrainingRoom:
    """What is used from outside."""

    def __init__(
        self,
        bus: Bus,
        codec: Codec,
        stream: EventStream,
        journal: Journal,
        books: TrainingBooks,
        timeout_s: float,
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._books = books
        requests, letters = books.requests, books.letters
        maker = Maker(stream, journal, requests)
        dispatcher = Dispatcher(
            requests,
            WorkQueue(bus, codec, timeout_s),
            maker,
            marks.CancellationMarks(bus.kv(marks.BUCKET), timeout_s),
            self._held_by,
            self._share_of,
        )
        self._counter = QueueCounter(journal, requests, letters)
        self.desk = Desk(
            stream, journal, requests, books.ledger, maker, dispatcher, self._counter, self._held_by
        )
        self.policy_desk = books.policies
        parts = Parts(stream, journal, books.ledger, letters, requests, maker, dispatcher)
        self.letter_desk = LetterDesk(bus, parts, timeout_s)
        clockwork = Clockwork(bus.kv(policies.BUCKET), timeout_s)
        self._learner = Learner(journal, requests, books.policies, clockwork, maker, dispatcher)

    def followers(self, interval_s: float) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the calls, each until cancelled."""
        work = [self._learner.run(interval_s), self._counter.measure(self._bus)]
        return [*self._books.followers(), *work]

    def _held_by(self, request: learning.TrainingRequest) -> str:
        """Why a request may not run yet."""
        if not request.is_automatic:
            return ""
        policy = self._books.policies.policy_of(request.tenant, request.adapter)
        if policy.daily_budget_s is None:
            return ""
        jobs = self._books.requests.jobs_of(request.tenant, request.adapter)
        return held_by_budget(policy, jobs, datetime.now(UTC))

    def _share_of(self, tenant: str, adapter: str) -> float:
        policy = self._books.policies.policy_of(tenant, adapter)
        live = live_lessons(self._journal.book.all_of(tenant), adapter)
        return rules.author_share(policy, (lesson.author for lesson in live))
