"""Requests that nobody shall work on any more: marks that feedback_svc sets and clears.

Key `{tenant}.{training_request}`. A mark may come before the job of its request, so it is looked at
in two places: when a job is claimed, and when the mark comes. Whichever is second sees the other.
"""

from collections.abc import AsyncIterator

from selm.kv import KeyValue
from trainer_svc.jobs import Order

BUCKET = "training_cancellations"


class Cancellations:
    """Reads the marks."""

    def __init__(self, kv: KeyValue) -> None:
        self._kv = kv

    async def is_wished(self, order: Order) -> bool:
        return await self._kv.get(f"{order.tenant}.{order.request_id}") is not None

    async def watch(self) -> AsyncIterator[tuple[str, str]]:
        """Tenant and request of every mark there is, then of each new one. Never ends."""
        async for key, entry in self._kv.watch():
            if entry is not None:
                tenant, _, request_id = key.partition(".")
                yield tenant, request_id
