"""Engine slots and the leases on them: pure bookkeeping on the event loop, no torch, no files.

A loaded revision keeps its slot while a lease is held or an alias leads to it; any other one stays
as a cache until its slot is needed, least recently used first.
"""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from inference_svc.revisions import Revision
from selm.errors import SelmError

# Tenant and revision name: the same content of two tenants is two revisions.
Key = tuple[str, str]
NO_SLOT = "ADAPTER_SLOTS_EXHAUSTED"


def key_of(revision: Revision) -> Key:
    return revision.tenant, revision.name


@dataclass(eq=False)
class LoadedRevision:
    """A revision in a slot, probed and able to serve."""

    revision: Revision
    slot: int
    lessons: frozenset[str]
    size_bytes: int
    load_duration_s: float
    load_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_use_time: datetime | None = None
    num_leases: int = 0
    # Orders by use; the clock may step back.
    last_use: float = field(default_factory=time.monotonic)

    def lease(self) -> "SlotLease":
        self.num_leases += 1
        self.last_use = time.monotonic()
        self.last_use_time = datetime.now(UTC)
        return SlotLease(self)


class SlotLease:
    """One generation's hold on a loaded revision; releasing it twice counts once."""

    def __init__(self, loaded: LoadedRevision) -> None:
        self._loaded: LoadedRevision | None = loaded
        self.slot = loaded.slot

    def release(self) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.num_leases -= 1
            loaded.last_use = time.monotonic()


class SlotTable:
    """Which revision is in which slot; slots count from 1, 0 is the base model."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._free = list(range(num_slots, 0, -1))
        self._loaded: dict[Key, LoadedRevision] = {}

    def get(self, key: Key) -> LoadedRevision | None:
        return self._loaded.get(key)

    def all(self) -> list[LoadedRevision]:
        return list(self._loaded.values())

    def take(self, aliased: set[Key]) -> int:
        """A slot for a new revision, if need be another one's; ADAPTER_SLOTS_EXHAUSTED if none.

        The old revision is gone from the table at once, so nobody can lease it any more.
        """
        if self._free:
            return self._free.pop()
        idle = self._idle(aliased)
        if not idle:
            raise SelmError(
                NO_SLOT,
                f"all {self.num_slots} adapter slots are aliased or in use",
                metadata={"slots": str(self.num_slots)},
                retry_after_s=1.0,
            )
        oldest = min(idle, key=lambda loaded: loaded.last_use)
        del self._loaded[key_of(oldest.revision)]
        return oldest.slot

    def has_room(self, aliased: set[Key]) -> bool:
        """Whether take would find a slot now."""
        return bool(self._free or self._idle(aliased))

    def _idle(self, aliased: set[Key]) -> list[LoadedRevision]:
        return [
            loaded
            for key, loaded in self._loaded.items()
            if loaded.num_leases == 0 and key not in aliased
        ]

    def put(self, loaded: LoadedRevision) -> None:
        self._loaded[key_of(loaded.revision)] = loaded

    def give_back(self, slot: int) -> None:
        """A slot taken for a revision that did not make it."""
        self._free.append(slot)
