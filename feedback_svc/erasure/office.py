"""Takes wishes to forget a user and tells how far that is; the work itself is the parts' of it."""

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime

from feedback_svc import forgetting
from feedback_svc.core import RequestKey
from feedback_svc.erasure.book import ErasureBook
from feedback_svc.erasure.preview import Preview
from feedback_svc.stream.jetstream import answering
from feedback_svc.stream.ledger import Ledger
from feedback_svc.stream.turns import Turns
from selm import names
from selm.erasure_bus import ErasureStream
from selm.erasures import Erasure, ErasureOrder
from selm.errors import not_found
from selm.log import get_logger
from selm.testing import failpoint

_log = get_logger("feedback_svc.erasure")


class Office:
    """Fulfils forgetting.Forgetting."""

    def __init__(
        self,
        stream: ErasureStream,
        book: ErasureBook,
        ledger: Ledger,
        preview: Preview,
        timeout_s: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stream = stream
        self._book = book
        self._ledger = ledger
        self._preview = preview
        self._timeout_s = timeout_s
        self._now = now
        self._turns = Turns()

    async def forget(
        self, tenant: str, requester: str, wish: forgetting.ForgetWish, key: RequestKey | None
    ) -> Erasure:
        """An erasure that goes on through every crash; the one that runs, if one does."""
        async with self._turns.of((tenant, wish.user)), answering(self._timeout_s):
            await self._book.catch_up(tenant)
            name = self._present(tenant, wish.user)
            if key is not None:
                # Kept for ever: a repeat must not erase what came since.
                name = (await self._ledger.intend(tenant, key, name)).resource
            failpoint("feedback.erasure_settled")
            known = self._book.find(tenant, name)
            if known is not None:
                return known
            order = ErasureOrder(tenant, name, wish.user, self._now(), wish.reason, requester)
            await self._stream.order(order)
        _log.info("erasure_ordered", erasure=name, requester=requester)
        failpoint("feedback.erasure_ordered")
        return Erasure(order)

    async def preview(self, tenant: str, requester: str, wish: forgetting.ForgetWish) -> Erasure:
        """What would go, counted; nothing is changed."""
        order = ErasureOrder(tenant, "", wish.user, self._now(), wish.reason, requester)
        return await self._preview.of(order)

    async def get(self, tenant: str, name: str) -> Erasure:
        if self._book.find(tenant, name) is None:
            await self._book.catch_up(tenant)
        erasure = self._book.find(tenant, name)
        if erasure is None:
            raise not_found(name)
        return erasure

    async def list(self, tenant: str, page: forgetting.ErasurePage) -> Sequence[Erasure]:
        await self._book.catch_up(tenant)
        found = [
            erasure
            for erasure in self._book.of_tenant(tenant)
            if page.is_completed in (None, erasure.is_completed)
            and (page.before is None or (erasure.order.time, erasure.order.name) < page.before)
        ]
        return found[: page.limit]

    async def watch(self, tenant: str, name: str) -> AsyncGenerator[Erasure, None]:
        await self.get(tenant, name)
        async for erasure in self._book.watch(tenant, name):
            yield erasure

    def _present(self, tenant: str, user: str) -> str:
        """Name of the user's erasure that runs, or of the next one.

        Derived, so that two replicas asked at once order the same one.
        """
        earlier = [e for e in self._book.of_tenant(tenant) if e.order.user == user]
        for erasure in earlier:
            if not erasure.is_completed:
                return erasure.order.name
        content = f"{tenant}\0erasure\0{user}\0{len(earlier)}"
        return names.erasure_name(hashlib.sha256(content.encode()).hexdigest()[:32])
