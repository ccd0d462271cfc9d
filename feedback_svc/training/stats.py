"""Counts what waits, per adapter and kind; and for the metrics, over all tenants."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import nats.js.errors

from feedback_svc.learning import QueueNumbers, RequestState
from feedback_svc.signals import Kind
from feedback_svc.stream.journal import Journal
from feedback_svc.training import metrics, rules
from feedback_svc.training.learner import utc_now
from feedback_svc.training.letters import LetterBook
from feedback_svc.training.requests import RequestBook
from selm import streams
from selm.bus import Bus
from selm.bus_errors import broker_errors
from selm.errors import SelmError
from selm.log import get_logger

_INTERVAL_S = 5.0
_log = get_logger("feedback_svc.stats")


class QueueCounter:
    """Looks at the books; the broker is asked for the metrics alone."""

    def __init__(
        self,
        journal: Journal,
        requests: RequestBook,
        letters: LetterBook,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._journal = journal
        self._requests = requests
        self._letters = letters
        self._now = now

    def count(self, tenant: str, adapter: str) -> list[QueueNumbers]:
        """One per adapter and kind with anything to tell. Only corrections are trained."""
        letters = Counter(
            (letter.adapter, letter.kind or Kind.CORRECTION)
            for letter in self._letters.open_of(tenant)
            if letter.adapter
        )
        learning = {a for owner, a in self._journal.book.open_groups() if owner == tenant}
        groups = {(a, Kind.CORRECTION) for a in learning | self._requests.adapters(tenant)}
        wanted = sorted(g for g in groups | set(letters) if adapter in ("", g[0]))
        return [
            self._corrections(tenant, name, letters[name, kind])
            if kind is Kind.CORRECTION
            else QueueNumbers(name, kind, num_dead_letters=letters[name, kind])
            for name, kind in wanted
        ]

    def _corrections(self, tenant: str, adapter: str, num_dead_letters: int) -> QueueNumbers:
        lessons = rules.waiting(self._journal.book.open_lessons(tenant, adapter))
        views = self._requests.views(tenant, adapter)
        running = [v for v in views if v.state is RequestState.RUNNING]
        ages = [(self._now() - lesson.create_time).total_seconds() for lesson in lessons]
        return QueueNumbers(
            adapter=adapter,
            kind=Kind.CORRECTION,
            num_waiting_lessons=len(lessons),
            num_waiting_requests=sum(v.state is RequestState.WAITING for v in views),
            num_running_requests=len(running),
            oldest_age_s=max([0.0, *ages]),
            num_redeliveries=sum(1 for v in running if v.job and v.job.num_attempts > 1),
            num_dead_letters=num_dead_letters,
        )

    async def measure(self, bus: Bus) -> None:
        """Keep the metrics true, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            if not (self._journal.is_ready and self._requests.is_ready):
                continue
            try:
                self._set_gauges()
                for spec, durable in metrics.CONSUMERS:
                    await _measure_consumer(bus, spec.name, durable)
            except SelmError as error:
                _log.info("queues_not_measured", error=str(error))

    def _set_gauges(self) -> None:
        book = self._journal.book
        lessons = [
            x for group in book.open_groups() for x in rules.waiting(book.open_lessons(*group))
        ]
        ages = [(self._now() - lesson.create_time).total_seconds() for lesson in lessons]
        metrics.WAITING_LESSONS.set(len(lessons))
        metrics.QUEUE_OLDEST_AGE.set(max([0.0, *ages]))
        views = self._requests.open_views()
        for state in (RequestState.WAITING, RequestState.RUNNING):
            num_there = sum(view.state is state for view in views)
            metrics.QUEUE_REQUESTS.labels(state=state.lower()).set(num_there)
        letters = Counter(letter.stream for letter in self._letters.all_open())
        for spec in streams.STREAMS:
            if spec.name in letters or spec.name in metrics.DEAD_LETTER_STREAMS:
                metrics.QUEUE_DEAD_LETTERS.labels(stream=spec.name).set(letters[spec.name])


async def _measure_consumer(bus: Bus, stream: str, durable: str) -> None:
    with broker_errors():
        try:
            info = await bus.connection.jetstream().consumer_info(stream, durable)
        except nats.js.errors.NotFoundError:
            # Nobody has consumed yet: there is nothing to tell.
            return
    metrics.QUEUE_DEPTH.labels(stream=stream, consumer=durable).set(info.num_pending or 0)
    metrics.QUEUE_REDELIVERED.labels(stream=stream, consumer=durable).set(info.num_redelivered or 0)
