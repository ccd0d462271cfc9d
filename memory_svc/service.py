"""MemoryService: parse, call, render. No logic."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from memory_svc import render, wire
from memory_svc.announcements import Announcements
from memory_svc.applied import AppliedEvents
from memory_svc.memories import Memories
from memory_svc.search import Search
from selm import consistency
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.api.memory.v1 import memory_service_pb2_grpc
from selm.auth import current_principal
from selm.deadline import remaining_s
from selm.streams import FEEDBACK

# Of the time that is left to a search, this much is kept for the search itself.
_SEARCH_SHARE = 0.4


class MemoryService(memory_service_pb2_grpc.MemoryServiceServicer):
    """What SELM remembers for a user."""

    def __init__(
        self,
        memories: Memories,
        search: Search,
        applied: AppliedEvents,
        announcements: Announcements,
        consistency_wait_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._memories = memories
        self._search = search
        self._applied = applied
        self._announcements = announcements
        self._consistency_wait_s = consistency_wait_s
        self._clock = clock

    async def CreateMemory(
        self, request: pb.CreateMemoryRequest, context: Any
    ) -> pb.CreateMemoryResponse:
        now = self._clock()
        outcome = await self._memories.remember(
            wire.parse_create(request, current_principal(), now)
        )
        # What was applied when it returned: the memory itself is visible to every read already.
        token = consistency.encode(FEEDBACK.name, self._applied.floor)
        return render.render_created(outcome, token, now)

    async def GetMemory(self, request: pb.GetMemoryRequest, context: Any) -> pb.GetMemoryResponse:
        user, memory_id = wire.parse_name(request.name)
        memory = await self._memories.get(current_principal().tenant, user, memory_id)
        return pb.GetMemoryResponse(memory=render.render_memory(memory, self._clock()))

    async def ListMemories(
        self, request: pb.ListMemoriesRequest, context: Any
    ) -> pb.ListMemoriesResponse:
        now = self._clock()
        page = wire.parse_list(request, current_principal(), now)
        # One more than asked for tells whether there is another page.
        found = await self._memories.list_newest(page.condition, page.size + 1, page.before)
        memories = found[: page.size]
        token = page.token_after(memories[-1]) if len(found) > page.size else ""
        return render.render_page(memories, token, now)

    async def DeleteMemory(
        self, request: pb.DeleteMemoryRequest, context: Any
    ) -> pb.DeleteMemoryResponse:
        user, memory_id = wire.parse_delete(request)
        tombstone = await self._memories.delete(current_principal().tenant, user, memory_id)
        await self._announcements.deleted(tombstone)
        return pb.DeleteMemoryResponse()

    async def SearchMemories(
        self, request: pb.SearchMemoriesRequest, context: Any
    ) -> pb.SearchMemoriesResponse:
        search = wire.parse_search(request, current_principal(), self._clock())
        await self._wait_for(search.wanted_sequence)
        found = await self._search.find(search.query)
        return render.render_found(found, self._clock())

    async def _wait_for(self, sequence: int) -> None:
        remaining = remaining_s()
        wait_s = self._consistency_wait_s
        if remaining is not None:
            wait_s = min(wait_s, remaining * (1 - _SEARCH_SHARE))
        await self._applied.wait_for(sequence, wait_s)
