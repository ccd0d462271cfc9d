"""Training requests in the bucket: the keys, what stands under them, and nothing about their state.

`latest.{tenant}.{adapter}` is written by compare-and-set and makes a request exist, one at a time;
`training_request.{tenant}.{id}` keeps every one, and whether it reached the work queue. The bucket
is shared with the ledger, so each kind of key begins with a word of its own, never with a tenant.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from feedback_svc import learning
from selm import names
from selm.errors import SelmError
from selm.kv import KeyValue
from selm.log import get_logger

BUCKET = "request_ids"
_LATEST = "latest"
_REQUEST = "training_request"
_LOST_RACE = frozenset({"RESOURCE_EXISTS", "STALE_REVISION"})
_log = get_logger("feedback_svc.request_store")


class RequestStore:
    """Reads and writes requests; forgets none that ever existed."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def read_all(self) -> AsyncIterator[learning.TrainingRequest]:
        """Every request; one that was marked comes twice, and only its own key says so."""
        for prefix in (_REQUEST, _LATEST):
            for key in await self._bucket.keys(f"{prefix}."):
                entry = await self._bucket.get(key)
                if entry is None:
                    continue
                try:
                    yield _decode(entry.value)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    # One strange entry must not keep every tenant's requests from being read.
                    _log.error("unreadable", bucket=BUCKET, key=key, error=repr(error))

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
            # Until it is marked it stands under this key alone: a crash may have come before that.
            await self._keep(latest)
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

    async def _keep(self, request: learning.TrainingRequest) -> None:
        """Store a request under its own key, unless it is there: then it may say more."""
        try:
            await self._bucket.create(_path(request.tenant, request.request_id), _encode(request))
        except SelmError as error:
            if error.reason != "RESOURCE_EXISTS":
                raise

    async def put(self, request: learning.TrainingRequest) -> None:
        """Store a request under its own key, whatever stands there."""
        await self._bucket.put(_path(request.tenant, request.request_id), _encode(request))

    async def find(self, tenant: str, request_id: str) -> learning.TrainingRequest | None:
        """A request that is kept under its own key."""
        entry = await self._bucket.get(_path(tenant, request_id))
        return _decode(entry.value) if entry else None


def _latest_path(tenant: str, adapter: str) -> str:
    return f"{_LATEST}.{tenant}.{(names.parse(names.ADAPTER, adapter) or ('',))[0]}"


def _path(tenant: str, request_id: str) -> str:
    return f"{_REQUEST}.{tenant}.{request_id}"


def _encode(request: learning.TrainingRequest) -> bytes:
    fields = {**asdict(request), "create_time": request.create_time.isoformat()}
    return json.dumps(fields).encode()


def _decode(value: bytes) -> learning.TrainingRequest:
    fields: dict[str, Any] = json.loads(value)
    fields["create_time"] = datetime.fromisoformat(fields["create_time"])
    fields["trigger"] = learning.Trigger(fields["trigger"])
    fields["lessons"] = tuple(fields["lessons"])
    return learning.TrainingRequest(**fields)
