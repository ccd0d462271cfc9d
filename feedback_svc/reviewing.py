"""The nouns of review: items, conflicts, authors; another part of core.

Knows no protobuf, broker or gRPC. The ports at the end are what the back room `review` fulfils.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from feedback_svc.core import Decision, FeedbackRecord, RequestKey
from feedback_svc.signals import Correction
from selm.auth import Principal

# Who decided where the authors did.
QUORUM = "quorum"


class ItemState(IntEnum):
    """Where a review item stands; numbers of the contract."""

    PENDING = 1
    APPROVED = 2
    AMENDED = 3
    REJECTED = 4


@dataclass(frozen=True)
class ReviewItem:
    """An event that was withheld, and what a reviewer made of it."""

    record: FeedbackRecord
    state: ItemState
    # None while it is PENDING.
    decision: Decision | None = None
    # Name of the conflict it is part of; empty if none.
    conflict: str = ""


@dataclass(frozen=True)
class ItemFilter:
    """Conditions on items, all of which must hold; empty ones hold for all."""

    # Empty means PENDING.
    states: frozenset[ItemState] = frozenset()
    # Names of kinds; any of them.
    findings: frozenset[str] = frozenset()
    adapter: str = ""


class ConflictState(IntEnum):
    """Whether a conflict still blocks; numbers of the contract."""

    OPEN = 1
    RESOLVED = 2


@dataclass(frozen=True)
class ConflictClaim:
    """One of the answers in a conflict."""

    claim_id: str
    answer: str
    lessons: tuple[str, ...]
    num_authors: int
    weight: float
    is_winner: bool


@dataclass(frozen=True)
class Conflict:
    """Authors who say different things about the same question, for the same adapter."""

    name: str
    state: ConflictState
    adapter: str
    subject_key: str
    question: str
    claims: tuple[ConflictClaim, ...]
    quorum_weight: float
    # Empty while it is OPEN.
    resolver: str
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True)
class ConflictFilter:
    """Conditions on conflicts; empty ones hold for all."""

    # Empty means OPEN.
    states: frozenset[ConflictState] = frozenset()
    adapter: str = ""


@dataclass(frozen=True)
class Author:
    """Someone who gives feedback, and how far the tenant trusts it."""

    subject: str
    trust: float
    trust_fixed: bool
    blocked: bool
    num_accepted: int
    num_rejected: int
    num_conflicts_lost: int
    etag: str
    update_time: datetime | None


@dataclass(frozen=True)
class AuthorChange:
    """New values of an author's fields; None leaves one as it is."""

    subject: str
    trust: float | None = None
    trust_fixed: bool | None = None
    blocked: bool | None = None
    etag: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a reviewer says about an item or a conflict."""

    reviewer: Principal
    name: str
    reason: str
    key: RequestKey | None = None


class Reviewing(Protocol):
    """People deciding what may be learned."""

    async def get(self, tenant: str, name: str) -> ReviewItem: ...

    async def list(
        self, tenant: str, wanted: ItemFilter, after: tuple[int, str], limit: int
    ) -> tuple[Sequence[ReviewItem], int]:
        """Oldest first, those behind a sequence and name; and how many fit in all."""
        ...

    async def approve(self, verdict: Verdict) -> ReviewItem: ...

    async def reject(self, verdict: Verdict) -> ReviewItem: ...

    async def amend(self, verdict: Verdict, correction: Correction) -> ReviewItem: ...


class Conflicts(Protocol):
    """What authors do not agree on."""

    async def get(self, tenant: str, name: str) -> Conflict: ...

    async def list(
        self,
        tenant: str,
        wanted: ConflictFilter,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> Sequence[Conflict]:
        """Newest first, those before a time and name."""
        ...

    async def resolve(self, verdict: Verdict, claim_id: str) -> Conflict: ...


class Authors(Protocol):
    """Who gives feedback, and how far it is trusted."""

    async def get(self, tenant: str, subject: str) -> Author: ...

    async def list(
        self, tenant: str, after: tuple[int, str] | None, limit: int
    ) -> Sequence[Author]:
        """Most rejected first, those behind a negated count and a subject."""
        ...

    async def update(self, tenant: str, change: AuthorChange, key: RequestKey | None) -> Author:
        """STALE_ETAG if the author changed since its etag was read."""
        ...
