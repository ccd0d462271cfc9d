"""The policy of each adapter: what was changed, in a bucket; the rest is the deployment's default.

Key `policy.{tenant}.{adapter}`, written by compare-and-set. Everybody's writes are watched, so that
policy_of answers at once and without the broker.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from feedback_svc import core, learning
from feedback_svc.stream.jetstream import EventStream, answering
from feedback_svc.stream.ledger import Ledger
from selm import names
from selm.errors import SelmError, adapter_not_found, unavailable
from selm.kv import Entry, KeyValue
from selm.lessons import Consent
from selm.log import get_logger
from selm.testing import failpoint

BUCKET = "training_policies"
_PREFIX = "policy"
_LOST_RACE = frozenset({"RESOURCE_EXISTS", "STALE_REVISION"})
_RETRY_S = 0.5
_log = get_logger("feedback_svc.policies")


class PolicyBook:
    """Fulfils learning.Policies and learning.PolicyDesk."""

    def __init__(
        self,
        bucket: KeyValue,
        stream: EventStream,
        ledger: Ledger,
        defaults: learning.TrainingPolicy,
        timeout_s: float,
    ) -> None:
        self._bucket = bucket
        self._stream = stream
        self._ledger = ledger
        self._defaults = defaults
        self._timeout_s = timeout_s
        self._known: dict[str, tuple[int, learning.TrainingPolicy]] = {}
        self.is_ready = False

    async def follow(self) -> None:
        """Read every policy, then hear each change, until cancelled."""
        while not self.is_ready:
            try:
                for key in await self._bucket.keys(f"{_PREFIX}."):
                    self._learn(key, await self._bucket.get(key))
                self.is_ready = True
            except SelmError as error:
                _log.warning("policies_not_read", error=str(error))
                await asyncio.sleep(_RETRY_S)
        async for key, entry in self._bucket.watch(f"{_PREFIX}."):
            self._learn(key, entry)

    def policy_of(self, tenant: str, adapter: str) -> learning.TrainingPolicy:
        """The policy in force; STARTING while nobody knows: a default may let through too much."""
        if not self.is_ready:
            raise unavailable("STARTING", "policies are being read", waiting_for="policies")
        known = self._known.get(_path(tenant, adapter))
        return known[1] if known else self._defaults

    async def get(self, tenant: str, adapter: str) -> learning.TrainingPolicy:
        """As stored now, whoever wrote it."""
        await self._require_adapter(tenant, adapter)
        async with answering(self._timeout_s):
            self._learn(_path(tenant, adapter), await self._bucket.get(_path(tenant, adapter)))
        return self.policy_of(tenant, adapter)

    async def change(
        self, tenant: str, change: learning.PolicyChange, key: core.RequestKey | None
    ) -> learning.TrainingPolicy:
        """The policy after the change; a repeat under the same request_id changes nothing."""
        entry = await self._ledger.find(tenant, key) if key else None
        if entry is None or not entry.is_done:
            await self._require_adapter(tenant, change.adapter)
            path = _path(tenant, change.adapter)
            if key is not None:
                await self._ledger.intend(tenant, key, path)
            await self._write(path, change, key.request_id if key else "")
            failpoint("feedback.after_policy")
            if key is not None:
                await self._ledger.complete(tenant, key, path)
        return self.policy_of(tenant, change.adapter)

    async def _write(self, path: str, change: learning.PolicyChange, request_id: str) -> None:
        while True:
            async with answering(self._timeout_s):
                entry = await self._bucket.get(path)
            stored = json.loads(entry.value) if entry else {}
            if request_id and stored.get("request_id") == request_id:
                return self._learn(path, entry)
            _check_etag(change.etag, _etag(entry) if entry else "")
            value = json.dumps(
                {
                    "fields": _merged(stored.get("fields", {}), change.fields),
                    "update_time": datetime.now(UTC).isoformat(),
                    # A repeat of the last write, whose answer was lost, is told by this.
                    "request_id": request_id,
                }
            ).encode()
            try:
                async with answering(self._timeout_s):
                    if entry is None:
                        revision = await self._bucket.create(path, value)
                    else:
                        revision = await self._bucket.update(path, value, entry.revision)
            except SelmError as error:
                if error.reason not in _LOST_RACE:
                    raise
            else:
                return self._learn(path, Entry(value, revision))

    async def _require_adapter(self, tenant: str, adapter: str) -> None:
        if not self._stream.is_connected:
            raise unavailable("BUS_UNAVAILABLE", "NATS does not answer")
        if not await self._stream.adapter_exists(tenant, adapter):
            raise adapter_not_found(adapter)

    def _learn(self, path: str, entry: Entry | None) -> None:
        """Keep the newest that was ever seen."""
        if entry is None or entry.revision <= self._known.get(path, (0, None))[0]:
            return
        try:
            stored = json.loads(entry.value)
            policy = replace(
                self._defaults,
                **_decoded(stored["fields"]),
                etag=_etag(entry),
                update_time=datetime.fromisoformat(stored["update_time"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.error("unreadable", bucket=BUCKET, key=path, error=repr(error))
            return
        self._known[path] = (entry.revision, policy)


def _merged(stored: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Stored fields after a change; None takes one back."""
    after = {**stored, **{name: _encoded(value) for name, value in fields.items()}}
    return {name: value for name, value in after.items() if value is not None}


def _encoded(value: Any) -> Any:
    return value.name if isinstance(value, Consent) else value


def _decoded(fields: Mapping[str, Any]) -> dict[str, Any]:
    decoded = dict(fields)
    if "default_consent" in decoded:
        decoded["default_consent"] = Consent[decoded["default_consent"]]
    return decoded


def _etag(entry: Entry) -> str:
    return f'"{entry.revision:x}"'


def _check_etag(sent: str, current: str) -> None:
    if sent and sent != current:
        raise SelmError(
            "STALE_ETAG",
            "the policy changed since its etag was read",
            metadata={"expected": sent, "actual": current},
        )


def _path(tenant: str, adapter: str) -> str:
    return f"{_PREFIX}.{tenant}.{(names.parse(names.ADAPTER, adapter) or ('',))[0]}"
