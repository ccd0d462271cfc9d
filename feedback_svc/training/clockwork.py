"""Which minutes of an adapter's schedule were heeded, kept through restarts.

Key `heeded.{tenant}.{adapter}` of the policies' bucket. A schedule counts from when it was set; the
minutes that came while nobody looked are heeded together, once.
"""

from datetime import UTC, datetime

from feedback_svc.learning import TrainingPolicy
from feedback_svc.schedule import due_minute
from feedback_svc.stream.jetstream import answering
from selm import names
from selm.kv import KeyValue


class Clockwork:
    """Tells when a schedule is due."""

    def __init__(self, bucket: KeyValue, timeout_s: float) -> None:
        self._bucket = bucket
        self._timeout_s = timeout_s
        self._heeded: dict[str, datetime] = {}

    async def due(
        self, tenant: str, adapter: str, policy: TrainingPolicy, oldest: datetime, now: datetime
    ) -> datetime | None:
        """The minute that has come and was not heeded yet, since the oldest lesson waits."""
        if not policy.schedule:
            return None
        since = max(oldest, policy.update_time or oldest)
        # Asked from memory first: most looks end here, without the broker.
        known = self._heeded.get(_path(tenant, adapter))
        if due_minute(policy.schedule, max(since, known or since), now) is None:
            return None
        since = max(since, await self._read(_path(tenant, adapter)) or since)
        return due_minute(policy.schedule, since, now)

    async def heed(self, tenant: str, adapter: str, now: datetime) -> None:
        """Note that everything due until now is dealt with."""
        path = _path(tenant, adapter)
        async with answering(self._timeout_s):
            await self._bucket.put(path, now.astimezone(UTC).isoformat().encode())
        self._heeded[path] = now

    async def _read(self, path: str) -> datetime | None:
        async with answering(self._timeout_s):
            entry = await self._bucket.get(path)
        if entry is None:
            return None
        self._heeded[path] = datetime.fromisoformat(entry.value.decode())
        return self._heeded[path]


def _path(tenant: str, adapter: str) -> str:
    return f"heeded.{tenant}.{(names.parse(names.ADAPTER, adapter) or ('',))[0]}"
