"""Training requests: kept in the bucket, their state folded from JOBS and from dead letters.

TRAINING is a work queue and forgets what a trainer has taken, so requests live in the bucket; see
request_store.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from feedback_svc import learning
from feedback_svc.core import Failure
from feedback_svc.learning import RequestState, Stage
from feedback_svc.stream.jetstream import Codec
from feedback_svc.training.request_store import BUCKET, Change, RequestStore, StoredRequest
from selm import names, streams
from selm.bus import Bus
from selm.delivery import CaughtUp, Delivery
from selm.errors import SelmError, not_found
from selm.kv import KeyValue
from selm.log import get_logger

_RETRY_S = 0.5
_log = get_logger("feedback_svc.requests")


class GivenUp(Protocol):
    """Whether a request's message was given up by the trainers' consumer."""

    @property
    def is_ready(self) -> bool: ...

    def failure_of_request(self, tenant: str, request: str) -> Failure | None: ...


class RequestBook:
    """All requests this replica knows, and how they stand."""

    def __init__(self, bucket: KeyValue, codec: Codec, given_up: GivenUp) -> None:
        self._store = RequestStore(bucket)
        self._codec = codec
        self._given_up = given_up
        self._requests: dict[tuple[str, str], StoredRequest] = {}
        # Those that were not seen at their end yet: all that a look every second goes through.
        self._open: set[tuple[str, str]] = set()
        self._jobs: dict[tuple[str, str], learning.JobNews] = {}
        # What has to be read to its end before a request's state can be told.
        self._to_read = {BUCKET, streams.JOBS.name}

    @property
    def is_ready(self) -> bool:
        return not self._to_read and self._given_up.is_ready

    def followers(self, bus: Bus) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the calls, each until cancelled."""
        return [self._load_until_read(), self._follow_jobs(bus)]

    async def _load_until_read(self) -> None:
        while BUCKET in self._to_read:
            try:
                async for stored in self._store.read_all():
                    self._learn(stored)
            except SelmError as error:
                _log.warning("requests_not_read", error=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                self._to_read.discard(BUCKET)
        async for stored in self._store.watch():
            self._learn(stored)

    async def create(self, request: learning.TrainingRequest) -> learning.TrainingRequest:
        """Make the request exist, unless one of its adapter waits: then that one is returned."""
        while True:
            latest, revision = await self._store.latest(request.tenant, request.adapter)
            if latest is not None:
                latest = self._learn(StoredRequest(latest))
                is_same = latest.request_id == request.request_id
                is_waiting = self.view(latest).state is RequestState.WAITING
                if is_same or (is_waiting and not latest.canceller):
                    return latest
            if await self._store.succeed(latest, revision, request):
                return self._learn(StoredRequest(request))
            # Another replica was faster: look at what it made.

    async def change(
        self, request: learning.TrainingRequest, change: Change
    ) -> learning.TrainingRequest:
        """The request after a change of what this service decides about it; durable."""
        return self._learn(await self._store.change(request, change))

    async def find(self, tenant: str, name: str) -> learning.RequestView:
        """A request by name, also one that another replica made."""
        known = self._requests.get((tenant, name))
        if known is None:
            ids = names.parse(names.TRAINING_REQUEST, name) or ("",)
            known = await self._store.find(tenant, ids[0])
            if known is None:
                raise not_found(name)
            self._learn(known)
        return self.view(known.request)

    def peek(self, tenant: str, name: str) -> learning.RequestView | None:
        """A request that this replica knows."""
        known = self._requests.get((tenant, name))
        return self.view(known.request) if known else None

    def views(self, tenant: str, adapter: str = "") -> list[learning.RequestView]:
        """Requests of an adapter, or of all, oldest first."""
        found = [
            self.view(stored.request)
            for stored in self._requests.values()
            if stored.request.tenant == tenant and adapter in ("", stored.request.adapter)
        ]
        return sorted(found, key=lambda view: view.request.create_time)

    def adapters(self, tenant: str) -> set[str]:
        """Adapters of a tenant that were ever asked to learn."""
        return {s.request.adapter for s in self._requests.values() if s.request.tenant == tenant}

    def open_views(self) -> list[learning.RequestView]:
        """What waits or runs, of all tenants."""
        self._forget_ended()
        views = [self.view(self._requests[key].request) for key in self._open]
        return [view for view in views if view.state.is_open]

    def unfinished(self) -> list[learning.TrainingRequest]:
        """Requests in the middle of a step; a crash or an outage may have left them there."""
        self._forget_ended()
        requests = [self._requests[key].request for key in self._open]
        return [request for request in requests if _is_unfinished(request)]

    def job_of(self, tenant: str, request: str) -> learning.JobNews | None:
        """The newest job that worked on a request."""
        return self._jobs.get((tenant, request))

    def jobs_of(self, tenant: str, adapter: str) -> list[learning.JobNews]:
        """The job of each request of an adapter."""
        return [j for j in self._jobs.values() if j.tenant == tenant and j.adapter == adapter]

    def view(self, request: learning.TrainingRequest) -> learning.RequestView:
        """How a request stands: as this service ended it, else what its job says, else whether the
        queue gave it up."""
        job = self._jobs.get((request.tenant, request.name))
        if request.outcome is not None:
            time = request.outcome_time or request.create_time
            return learning.RequestView(request, request.outcome, time, job)
        given_up = self._given_up.failure_of_request(request.tenant, request.name)
        if given_up is not None and (job is None or job.state.is_open):
            time = job.update_time if job else request.create_time
            return learning.RequestView(request, RequestState.FAILED, time, job, given_up)
        if job is None:
            return learning.RequestView(request, RequestState.WAITING, request.create_time)
        return learning.RequestView(request, job.state, job.update_time, job, job.failure)

    def _learn(self, stored: StoredRequest) -> learning.TrainingRequest:
        """Keep the newest of a request that was ever seen."""
        key = (stored.request.tenant, stored.request.name)
        known = self._requests.get(key)
        if known is None or stored.revision > known.revision:
            known = self._requests[key] = stored
            self._open.add(key)
        return known.request

    def _forget_ended(self) -> None:
        """One that is changed after its end, such as by a replay, comes back by that."""
        if self.is_ready:
            for key in tuple(self._open):
                request = self._requests[key].request
                if not (self.view(request).state.is_open or _is_unfinished(request)):
                    self._open.discard(key)

    def _take_job(self, delivery: Delivery) -> None:
        news = self._codec.job(delivery)
        if news is None:
            return
        known = self._jobs.get((news.tenant, news.request))
        # A request has one job; should it ever have two, the one that changed last counts.
        if known is None or known.job == news.job or news.update_time >= known.update_time:
            self._jobs[news.tenant, news.request] = news

    async def _follow_jobs(self, bus: Bus) -> None:
        spec = streams.JOBS
        async for item in bus.replay(spec.name, spec.subjects, last_per_subject=True):
            if isinstance(item, CaughtUp):
                self._to_read.discard(spec.name)
                continue
            try:
                self._take_job(item)
            except (SelmError, ValueError) as error:
                _log.error("unreadable", stream=spec.name, seq=item.sequence, error=str(error))


def _is_unfinished(request: learning.TrainingRequest) -> bool:
    is_resting = request.stage in (Stage.READY, Stage.RELEASED) and not request.canceller
    return request.outcome is None and not is_resting
