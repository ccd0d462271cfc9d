"""A change that a caller asks for under a request id is made once, however often it is asked."""

from collections.abc import Awaitable, Callable

from feedback_svc.core import RequestKey
from feedback_svc.stream.ledger import Ledger


class Once:
    """Uses the ledger of request ids."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def do(
        self,
        tenant: str,
        key: RequestKey | None,
        resource: str,
        change: Callable[[], Awaitable[object]],
    ) -> None:
        """Make the change unless it was made; what died in between is made again, so it must be
        fit for that. REQUEST_ID_REUSED if the id asked for something else before."""
        if key is None:
            await change()
            return
        entry = await self._ledger.find(tenant, key)
        if entry is not None and entry.is_done:
            return
        await self._ledger.intend(tenant, key, resource)
        await change()
        await self._ledger.complete(tenant, key, resource)
