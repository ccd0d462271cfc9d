"""Training requests in the bucket: the keys, what stands under them, and nothing about their state.

`latest.{tenant}.{adapter}` is written by compare-and-set and makes a request exist, one at a time;
`training_request.{tenant}.{id}` keeps every one and what has changed of it since, each change by
compare-and-set. The bucket is shared with the ledger, so each kind of key begins with a word of its
own, never with a tenant.
"""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from feedback_svc import learning
from selm import names
from selm.errors import SelmError
from selm.kv import Entry, KeyValue
from selm.log import get_logger

BUCKET = "request_ids"
_LATEST = "latest"
_REQUEST = "training_request"
_LOST_RACE = frozenset({"RESOURCE_EXISTS", "STALE_REVISION"})
_log = get_logger("feedback_svc.request_store")

Change = Callable[[learning.TrainingRequest], learning.TrainingRequest]


@dataclass(frozen=True)
class StoredRequest:
    """A request as it stood at a revision of its own key; 0 if it is only the latest's copy."""

    request: learning.TrainingRequest
    revision: int = 0


class RequestStore:
    """Reads and writes requests; forgets none that ever existed."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def read_all(self) -> AsyncIterator[StoredRequest]:
        """Every request; one that has changed comes twice, and its own key says more."""
        for prefix in (_REQUEST, _LATEST):
            for key in await self._bucket.keys(f"{prefix}."):
                entry = await self._bucket.get(key)
                if entry is not None and (stored := _read(key, entry)) is not None:
                    yield stored

    async def watch(self) -> AsyncIterator[StoredRequest]:
        """Every request under its own key, then each change by whatever replica. Never ends."""
        async for key, entry in self._bucket.watch(f"{_REQUEST}."):
            if entry is not None and (stored := _read(key, entry)) is not None:
                yield stored

    async def latest(
        self, tenant: str, adapter: str
    ) -> tuple[learning.TrainingRequest | None, int]:
        """The newest request of an adapter and its revision; None and 0 if there was none."""
        entry = await self._bucket.get(_latest_path(tenant, adapter))
        return (_decode(entry.value), entry.revision) if entry else (None, 0)

    async def succeed(
        self,
        latest: learning.TrainingRequest | None,
        revision: int,
        request: learning.TrainingRequest,
    ) -> bool:
        """Make a request the newest of its adapter; False if another replica was faster."""
        key = _latest_path(request.tenant, request.adapter)
        if latest is not None:
            # It may stand under this key alone: a crash may have come before its first change.
            await self.keep(latest)
        try:
            if latest is None:
                await self._bucket.create(key, _encode(request))
            else:
                await self._bucket.update(key, _encode(request), revision)
        except SelmError as error:
            if error.reason not in _LOST_RACE:
                raise
            return False
        return True

    async def keep(self, request: learning.TrainingRequest) -> None:
        """Store a request under its own key, unless it is there: then it may say more."""
        try:
            await self._bucket.create(_path(request.tenant, request.request_id), _encode(request))
        except SelmError as error:
            if error.reason != "RESOURCE_EXISTS":
                raise

    async def change(self, request: learning.TrainingRequest, change: Change) -> StoredRequest:
        """Apply a change to the request as it is now; if it changes nothing, nothing is written."""
        path = _path(request.tenant, request.request_id)
        while True:
            entry = await self._bucket.get(path)
            if entry is None:
                await self.keep(request)
                continue
            now = _decode(entry.value)
            changed = change(now)
            if changed == now:
                return StoredRequest(now, entry.revision)
            try:
                revision = await self._bucket.update(path, _encode(changed), entry.revision)
            except SelmError as error:
                if error.reason not in _LOST_RACE:
                    raise
            else:
                return StoredRequest(changed, revision)

    async def find(self, tenant: str, request_id: str) -> StoredRequest | None:
        """A request that is kept under its own key."""
        entry = await self._bucket.get(_path(tenant, request_id))
        return StoredRequest(_decode(entry.value), entry.revision) if entry else None


def _latest_path(tenant: str, adapter: str) -> str:
    return f"{_LATEST}.{tenant}.{(names.parse(names.ADAPTER, adapter) or ('',))[0]}"


def _path(tenant: str, request_id: str) -> str:
    return f"{_REQUEST}.{tenant}.{request_id}"


def _read(key: str, entry: Entry) -> StoredRequest | None:
    try:
        revision = entry.revision if key.startswith(f"{_REQUEST}.") else 0
        return StoredRequest(_decode(entry.value), revision)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # One strange entry must not keep every tenant's requests from being read.
        _log.error("unreadable", bucket=BUCKET, key=key, error=repr(error))
        return None


def _encode(request: learning.TrainingRequest) -> bytes:
    ended = request.outcome_time
    fields = {
        **asdict(request),
        "create_time": request.create_time.isoformat(),
        "outcome_time": ended.isoformat() if ended else None,
    }
    return json.dumps(fields).encode()


def _decode(value: bytes) -> learning.TrainingRequest:
    fields: dict[str, Any] = json.loads(value)
    fields["create_time"] = datetime.fromisoformat(fields["create_time"])
    fields["trigger"] = learning.Trigger(fields["trigger"])
    fields["lessons"] = tuple(fields["lessons"])
    if fields.pop("announced", False):
        # Of the version before stages: it is in the work queue, at a place that nobody noted.
        fields["stage"] = learning.Stage.RELEASED
    fields["stage"] = learning.Stage(fields.get("stage", learning.Stage.NEW))
    if fields.get("outcome"):
        fields["outcome"] = learning.RequestState(fields["outcome"])
        fields["outcome_time"] = datetime.fromisoformat(fields["outcome_time"])
    return learning.TrainingRequest(**fields)
