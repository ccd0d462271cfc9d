"""The ledger of request ids: what a caller asked for under an id, and what came of it, for ever.

An entry is an intent until its event is known to be stored; whoever finds an intent goes on from
it. Messages carry ids derived from the request id, so going on twice still makes one event.
"""

import json
from dataclasses import dataclass

from feedback_svc import core
from feedback_svc.stream.jetstream import answering
from selm.errors import SelmError
from selm.kv import KeyValue


@dataclass(frozen=True)
class LedgerEntry:
    """What is known of one request id. `resource` is the name that the first attempt settled on."""

    digest: str
    resource: str
    is_done: bool
    revision: int


class Ledger:
    """Reads and writes entries of the bucket, key `ledger.{tenant}.{request_id}`."""

    def __init__(self, bucket: KeyValue, timeout_s: float) -> None:
        self._bucket = bucket
        self._timeout_s = timeout_s

    async def find(self, tenant: str, key: core.RequestKey) -> LedgerEntry | None:
        """The entry of an earlier attempt; REQUEST_ID_REUSED if that asked for something else."""
        async with answering(self._timeout_s):
            stored = await self._bucket.get(_path(tenant, key))
        if stored is None:
            return None
        fields = json.loads(stored.value)
        entry = LedgerEntry(
            fields["digest"], fields["resource"], fields["is_done"], stored.revision
        )
        if entry.digest != key.digest:
            raise SelmError(
                "REQUEST_ID_REUSED",
                "this request_id was used before with other content",
                metadata={"request_id": key.request_id},
            )
        return entry

    async def intend(self, tenant: str, key: core.RequestKey, resource: str) -> LedgerEntry:
        """Write the intent before acting on it; the entry of whoever was first."""
        value = _encode(key, resource, is_done=False)
        try:
            async with answering(self._timeout_s):
                revision = await self._bucket.create(_path(tenant, key), value)
        except SelmError as error:
            if error.reason != "RESOURCE_EXISTS":
                raise
            found = await self.find(tenant, key)
            if found is None:
                # A replica of the bucket that lags; the entry is there, so the caller may repeat.
                raise SelmError(
                    "BUS_UNAVAILABLE", "the ledger entry is not readable yet"
                ) from error
            return found
        return LedgerEntry(key.digest, resource, False, revision)

    async def complete(self, tenant: str, key: core.RequestKey, resource: str) -> None:
        """Note that the resource exists, so that it is never made again, even after its erasure."""
        async with answering(self._timeout_s):
            await self._bucket.put(_path(tenant, key), _encode(key, resource, is_done=True))


def _path(tenant: str, key: core.RequestKey) -> str:
    # The bucket holds other kinds of keys: a tenant may be called like the first word of those.
    return f"ledger.{tenant}.{key.request_id}"


def _encode(key: core.RequestKey, resource: str, *, is_done: bool) -> bytes:
    fields = {"digest": key.digest, "resource": resource, "is_done": is_done}
    return json.dumps(fields).encode()
