"""The nouns of forgetting a user, third part of core; the erasure itself is in selm.erasures.

Knows no protobuf, broker or gRPC. The ports are what the back room `erasure` fulfils and needs.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from feedback_svc.core import RequestKey
from selm.erasures import Erasure, ErasureOrder, Receipt


@dataclass(frozen=True)
class ForgetWish:
    """What a caller asks for."""

    user: str
    reason: str = ""


@dataclass(frozen=True)
class ErasurePage:
    """Which erasures are wanted: those made before `before`, a time and a name, newest first."""

    limit: int
    before: tuple[datetime, str] | None = None
    # None means both the running and the completed ones.
    is_completed: bool | None = None


class Forgetting(Protocol):
    """Forgets users, and tells how far that is."""

    async def forget(
        self, tenant: str, requester: str, wish: ForgetWish, key: RequestKey | None
    ) -> Erasure: ...

    async def preview(self, tenant: str, requester: str, wish: ForgetWish) -> Erasure: ...

    async def get(self, tenant: str, name: str) -> Erasure: ...

    async def list(self, tenant: str, page: ErasurePage) -> Sequence[Erasure]: ...

    def watch(self, tenant: str, name: str) -> AsyncGenerator[Erasure, None]: ...


class Datasets(Protocol):
    """Frozen datasets, which hold copies of what was said."""

    async def erase(self, tenant: str, event_names: Sequence[str]) -> int: ...


class Rebuilder(Protocol):
    """Asks for an adapter to be trained anew, without what was erased."""

    async def rebuild(self, order: ErasureOrder, adapter: str) -> None: ...


class MemoryCount(Protocol):
    """Asks memory_svc how many memories of a user would go; nothing is changed."""

    async def count(self, tenant: str, user: str) -> Receipt: ...
