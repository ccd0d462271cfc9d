"""Stream TOMBSTONES: deletes are written there first, and every replica follows it from its start.

A delete is on disk there before anything else changes. Knows no RPC and no store.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import datetime
from typing import cast

from memory_svc import metrics
from memory_svc.announcements import Announcements
from memory_svc.core import Memory, owner_of
from memory_svc.upkeep.tombstones import Tombstone, Tombstones
from selm import streams
from selm.api.event.v1.memory_event_pb2 import MemoryDeleted
from selm.bus import Bus, CaughtUp, Delivery
from selm.errors import SelmError
from selm.lesson_events import datetime_of
from selm.log import get_logger

_log = get_logger("memory.tombstones")

# Reads wait this long after a start for a bus that does not answer ...
WITHOUT_BUS_S = 2.0
# ... and for a replay that goes on.
LONGEST_REPLAY_S = 60.0


class TombstoneStream:
    """Says deletes on the bus, and knows when all that were ever said are known here."""

    def __init__(
        self,
        bus: Bus,
        tombstones: Tombstones,
        announcements: Announcements,
        clock: Callable[[], datetime],
        on_deleted: Callable[[str, str], None],
    ) -> None:
        """`on_deleted` hears of the tenant and id of each delete after the replay."""
        self._bus = bus
        self._tombstones = tombstones
        self._announcements = announcements
        self._clock = clock
        # Set when all deletes that were said before the start are known.
        self.replayed = asyncio.Event()
        self._started_s = asyncio.get_running_loop().time()
        self._on_deleted = on_deleted

    async def record(self, memory: Memory, principal: str) -> None:
        """The memory is about to be deleted: on disk when this returns, or BUS_UNAVAILABLE.

        Its lesson is told to have failed before its row is changed: whoever dies in between leaves
        a row that is found undeleted, and told again.
        """
        now = self._clock()
        event = MemoryDeleted(
            memory=memory.name,
            lesson=memory.lesson,
            feedback_event=memory.feedback_event,
            principal=principal,
        )
        event.event_time.FromDatetime(now)
        subject = streams.memory_deleted(memory.tenant, memory.memory_id)
        message_id = f"memory-deleted-{memory.tenant}-{memory.memory_id}"
        await self._bus.publish(subject, event, message_id=message_id)
        self._tombstones.add(memory.tenant, memory.memory_id, Tombstone(memory.user, now))
        metrics.TOMBSTONES.set(len(self._tombstones))
        await self._announcements.deleted(memory)

    async def count(self, tenant: str, principal: str) -> int:
        """How many memories a principal has deleted; of each the newest word counts."""
        prefix = streams.memory_deleted(tenant, "-").rpartition(".")[0]
        number = 0
        replay = self._bus.replay(streams.TOMBSTONES.name, [streams.any_of(prefix)])
        async with aclosing(cast(AsyncGenerator[Delivery | CaughtUp, None], replay)) as items:
            async for item in items:
                if isinstance(item, CaughtUp):
                    break
                number += item.parse(MemoryDeleted).principal == principal
        return number

    async def known(self) -> None:
        """Returns when reads may rely on the tombstones: after the replay. For a bus that is away
        they wait once, shortly after the start; rows in state DELETED are kept out without it."""
        if self.is_waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._remaining_s()):
                    await self.replayed.wait()

    @property
    def is_waiting(self) -> bool:
        """The replay is not done, and still is worth waiting for."""
        return not self.replayed.is_set() and self._remaining_s() > 0

    async def follow(self) -> None:
        """Runs until cancelled: what any replica deletes is never returned by this one."""
        subjects = streams.TOMBSTONES.subjects
        async for item in self._bus.replay(streams.TOMBSTONES.name, subjects):
            if isinstance(item, CaughtUp):
                self.replayed.set()
                _log.info("tombstones_replayed", number=len(self._tombstones))
                continue
            try:
                self._note(item)
            except (SelmError, ValueError) as error:
                # One unreadable message must not stop the others.
                _log.error("tombstone_not_understood", subject=item.subject, error=str(error))

    def _remaining_s(self) -> float:
        limit_s = LONGEST_REPLAY_S if self._bus.is_connected else WITHOUT_BUS_S
        return limit_s - (asyncio.get_running_loop().time() - self._started_s)

    def _note(self, delivery: Delivery) -> None:
        event = delivery.parse(MemoryDeleted)
        tenant = streams.tenant_of(delivery.subject)
        user, memory_id = owner_of(event.memory)
        tombstone = Tombstone(user, datetime_of(event.event_time))
        self._tombstones.add(tenant, memory_id, tombstone)
        metrics.TOMBSTONES.set(len(self._tombstones))
        if self.replayed.is_set():
            # Whoever deletes writes the row too, unless it died in between.
            self._on_deleted(tenant, memory_id)
