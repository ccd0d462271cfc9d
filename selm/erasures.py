"""The right to be forgotten, in the words that all services share: who is to go, who did what.

Pure. Knows no protobuf (see erasure_events) and no broker (see erasure_bus).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

MEMORY = "memory_svc"
FEEDBACK = "feedback_svc"
TRAINER = "trainer_svc"
# An erasure is completed when each of these has confirmed its part.
SERVICES = (MEMORY, FEEDBACK, TRAINER)


class ReceiptState(IntEnum):
    """How far a service is; numbers of the contract."""

    PENDING = 1
    HIDDEN = 2
    CONFIRMED = 3
    FAILED = 4


@dataclass(frozen=True)
class Trouble:
    """Why the last try of a service failed; `reason` is a published error reason."""

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    retryable: bool = True
    time: datetime | None = None


@dataclass(frozen=True)
class TaintedRevision:
    """A revision that was trained on examples of the user, and the aliases that point to it."""

    name: str
    sha256: str
    num_examples: int
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Receipt:
    """What one service did so far."""

    service: str
    state: ReceiptState = ReceiptState.PENDING
    num_memories: int = 0
    num_feedback: int = 0
    num_generations: int = 0
    num_datasets: int = 0
    revisions: tuple[TaintedRevision, ...] = ()
    trouble: Trouble | None = None
    update_time: datetime | None = None


@dataclass(frozen=True)
class ErasureOrder:
    """Somebody asked to forget a user."""

    tenant: str
    # `erasures/{erasure}`.
    name: str
    user: str
    time: datetime
    reason: str = ""
    requester: str = ""


@dataclass(frozen=True)
class ErasedEvent:
    """What is left of a purged feedback event: enough to tell a repeat of it, and its lesson."""

    name: str
    digest: str = ""
    lesson: str = ""
    author: str = ""
    target: str = ""


@dataclass(frozen=True)
class Erasure:
    """An order with the newest receipt of each service that has said anything."""

    order: ErasureOrder
    receipts: Mapping[str, Receipt] = field(default_factory=dict)

    def receipt(self, service: str) -> Receipt:
        return self.receipts.get(service, Receipt(service))

    def is_confirmed_by(self, *services: str) -> bool:
        return all(self.receipt(each).state is ReceiptState.CONFIRMED for each in services)

    @property
    def is_completed(self) -> bool:
        return self.is_confirmed_by(*SERVICES)

    @property
    def end_time(self) -> datetime | None:
        """When the last service confirmed; None while one has not."""
        times = [self.receipt(each).update_time or self.order.time for each in SERVICES]
        return max(times) if self.is_completed else None

    @property
    def shown_user(self) -> str:
        """The user's name is gone once all of the user is."""
        user = self.order.user
        return hashlib.sha256(user.encode()).hexdigest() if self.is_completed else user
