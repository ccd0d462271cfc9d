"""Training requests: kept in the bucket, their state folded from JOBS and DEAD_LETTERS.

TRAINING is a work queue and forgets what a trainer has taken, so requests live in the bucket; see
request_store.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from feedback_svc import learning
from feedback_svc.learning import RequestState
from feedback_svc.stream.jetstream import Codec
from feedback_svc.stream.request_store import BUCKET, RequestStore
from selm import names, streams
from selm.bus import Bus
from selm.delivery import CaughtUp, Delivery
from selm.errors import SelmError, not_found
from selm.kv import KeyValue
from selm.log import get_logger

_RETRY_S = 0.5
_log = get_logger("feedback_svc.requests")


class RequestBook:
    """All requests this replica knows, and how they stand."""

    def __init__(self, bucket: KeyValue, codec: Codec) -> None:
        self._store = RequestStore(bucket)
        self._codec = codec
        self._requests: dict[tuple[str, str], learning.TrainingRequest] = {}
        self._jobs: dict[tuple[str, str], learning.JobNews] = {}
        self._dead: dict[tuple[str, str], learning.DeadLetterNews] = {}
        self._num_dead: dict[tuple[str, str], int] = {}
        # What has to be read to its end before a request's state can be told.
        self._to_read = {BUCKET, streams.JOBS.name, streams.DEAD_LETTERS.name}

    @property
    def is_ready(self) -> bool:
        return not self._to_read

    def followers(self, bus: Bus) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the calls, each until cancelled."""
        return [
            self._load_until_read(),
            self._follow(bus, streams.JOBS, self._take_job, is_present=True),
            self._follow(bus, streams.DEAD_LETTERS, self._take_dead_letter, is_present=False),
        ]

    async def _load_until_read(self) -> None:
        while True:
            try:
                await self._load()
            except SelmError as error:
                _log.warning("requests_not_read", error=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                return self._note_read(BUCKET)

    async def _load(self) -> None:
        """Read what was asked before this process started."""
        async for request in self._store.read_all():
            self._learn(request)

    async def create(self, request: learning.TrainingRequest) -> learning.TrainingRequest:
        """Make the request exist, unless one of its adapter waits: then that one is returned."""
        while True:
            latest, revision = await self._store.latest(request.tenant, request.adapter)
            if latest is not None:
                latest = self._learn(latest)
                is_same = latest.request_id == request.request_id
                if is_same or self.view(latest).state is RequestState.WAITING:
                    return latest
            if await self._store.succeed(latest, revision, request):
                return self._learn(request)
            # Another replica was faster: look at what it made.

    async def mark_announced(self, request: learning.TrainingRequest) -> None:
        """Note that the work queue has it, so that nobody puts it there again."""
        announced = replace(request, announced=True)
        await self._store.put(announced)
        self._requests[announced.tenant, announced.name] = announced

    async def find(self, tenant: str, name: str) -> learning.RequestView:
        """A request by name, also one that another replica made."""
        request = self._requests.get((tenant, name))
        if request is None:
            ids = names.parse(names.TRAINING_REQUEST, name) or ("",)
            stored = await self._store.find(tenant, ids[0])
            if stored is None:
                raise not_found(name)
            request = self._learn(stored)
        return self.view(request)

    def peek(self, tenant: str, name: str) -> learning.RequestView | None:
        """A request that this replica knows."""
        request = self._requests.get((tenant, name))
        return self.view(request) if request else None

    def views(self, tenant: str, adapter: str) -> list[learning.RequestView]:
        """Requests of an adapter, oldest first."""
        found = [
            self.view(request)
            for request in self._requests.values()
            if request.tenant == tenant and request.adapter == adapter
        ]
        return sorted(found, key=lambda view: view.request.create_time)

    def adapters(self, tenant: str) -> set[str]:
        """Adapters of a tenant that were ever asked to learn, or have dead letters."""
        asked = {request.adapter for request in self._requests.values() if request.tenant == tenant}
        return asked | {adapter for owner, adapter in self._num_dead if owner == tenant and adapter}

    def unannounced(self) -> list[learning.TrainingRequest]:
        """Requests that nobody has marked: put into the work queue or not, that is to be seen."""
        return [request for request in self._requests.values() if not request.announced]

    def num_dead_letters(self, tenant: str, adapter: str) -> int:
        return self._num_dead.get((tenant, adapter), 0)

    def job_of(self, tenant: str, request: str) -> learning.JobNews | None:
        """The newest job that worked on a request."""
        return self._jobs.get((tenant, request))

    def view(self, request: learning.TrainingRequest) -> learning.RequestView:
        """How a request stands: what its job says, else whether the queue gave it up."""
        job = self._jobs.get((request.tenant, request.name))
        dead = self._dead.get((request.tenant, request.name))
        if dead is not None and (job is None or job.state.is_open):
            time = job.update_time if job else request.create_time
            return learning.RequestView(request, RequestState.FAILED, time, job, dead.failure)
        if job is None:
            return learning.RequestView(request, RequestState.WAITING, request.create_time)
        return learning.RequestView(request, job.state, job.update_time, job, job.failure)

    def _learn(self, request: learning.TrainingRequest) -> learning.TrainingRequest:
        """Keep a request; what is known to be announced stays so."""
        known = self._requests.setdefault((request.tenant, request.name), request)
        if request.announced and not known.announced:
            known = self._requests[request.tenant, request.name] = request
        return known

    def _take_job(self, delivery: Delivery) -> None:
        news = self._codec.job(delivery)
        if news is None:
            return
        known = self._jobs.get((news.tenant, news.request))
        # A request has one job; should it ever have two, the one that changed last counts.
        if known is None or known.job == news.job or news.update_time >= known.update_time:
            self._jobs[news.tenant, news.request] = news

    def _take_dead_letter(self, delivery: Delivery) -> None:
        news = self._codec.dead_letter(delivery)
        key = (news.tenant, news.adapter)
        self._num_dead[key] = self._num_dead.get(key, 0) + 1
        if news.request:
            self._dead[news.tenant, news.request] = news

    def _note_read(self, source: str) -> None:
        self._to_read.discard(source)

    async def _follow(
        self,
        bus: Bus,
        spec: streams.StreamSpec,
        take: Callable[[Delivery], None],
        *,
        is_present: bool,
    ) -> None:
        async for item in bus.replay(spec.name, spec.subjects, last_per_subject=is_present):
            if isinstance(item, CaughtUp):
                self._note_read(spec.name)
                continue
            try:
                take(item)
            except (SelmError, ValueError) as error:
                _log.error("unreadable", stream=spec.name, seq=item.sequence, error=str(error))
