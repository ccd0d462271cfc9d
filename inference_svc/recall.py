"""Asks memory what it knows about a request. The only caller of memory_svc in this service.

An outage or a slow answer never fails a generation: it goes on without memory and says so.
"""

import time
from contextlib import suppress
from datetime import UTC

import grpc
import structlog

from inference_svc.core import Ask, Hit, MemoryState, Recollection
from selm.api.memory.v1 import memory_pb2, memory_service_pb2, memory_service_pb2_grpc, search_pb2
from selm.errors import SelmError, from_rpc_error

log = structlog.get_logger()

# Fewer are never asked for: the gate's verdict on the next best is worth knowing as well.
MIN_RESULTS = 3
# Longer queries are cut: no stored question is that long, so none can match exactly.
MAX_QUERY_BYTES = 8192
CHANNEL_OPTIONS = (
    # A memory service that comes back is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # An answer in time or none: a retry inside the budget would only use it up.
    ("grpc.enable_retries", 0),
)
_STATES = (memory_pb2.Memory.STATE_ACTIVE, memory_pb2.Memory.STATE_RETIRED)
# The caller's own fault, unlike everything else that a search may answer.
_CALLERS_FAULT = "CURSOR_INVALID"
# Memory answers, but has not applied the token yet.
_LAGS = "CONSISTENCY_NOT_REACHED"


class MemoryRecall:
    """Open it with `async with`; connecting happens at the first search."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._stub = memory_service_pb2_grpc.MemoryServiceStub(self._channel)

    async def __aenter__(self) -> "MemoryRecall":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def search(self, ask: Ask) -> Recollection:
        """Hits with the gate's verdicts, within the time that the request gives to memory."""
        start = time.monotonic()
        if not ask.query.strip():
            return Recollection(MemoryState.READY)
        try:
            hits = await self._search(ask, ask.memory.consistency_token, ask.memory.timeout_s)
            state = MemoryState.READY
        except SelmError as error:
            if error.reason == _CALLERS_FAULT:
                raise
            left_s = start + ask.memory.timeout_s - time.monotonic()
            state, hits = await self._search_stale(ask, error, left_s)
        return Recollection(state, hits, time.monotonic() - start)

    async def _search_stale(
        self, ask: Ask, error: SelmError, left_s: float
    ) -> tuple[MemoryState, tuple[Hit, ...]]:
        """Memory that lags behind the token is asked once more for what it has."""
        if error.reason == _LAGS and left_s > 0:
            with suppress(SelmError):
                return MemoryState.STALE, await self._search(ask, "", left_s)
        log.warning("memory_degraded", reason=error.reason)
        return MemoryState.DEGRADED, ()

    async def _search(self, ask: Ask, token: str, timeout_s: float) -> tuple[Hit, ...]:
        request = memory_service_pb2.SearchMemoriesRequest(
            parent=ask.user,
            query=ask.query.encode()[:MAX_QUERY_BYTES].decode(errors="ignore"),
            max_results=max(MIN_RESULTS, ask.memory.max_memories),
            filter=search_pb2.MemoryFilter(states=_STATES, conversation=ask.conversation),
            consistency_token=token,
            # The cosine is among the signals behind a score.
            explain=ask.memory.direct_similarity is not None,
        )
        try:
            response = await self._stub.SearchMemories(
                request, timeout=timeout_s, metadata=_metadata(ask)
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return tuple(_hit(hit) for hit in response.hits)


def _metadata(ask: Ask) -> tuple[tuple[str, str], ...]:
    found = structlog.contextvars.get_contextvars().get("correlation_id", "")
    correlation = (("x-request-id", str(found)),) if found else ()
    return (("x-selm-tenant", ask.tenant), *correlation)


def _hit(hit: search_pb2.MemoryHit) -> Hit:
    memory, decision = hit.memory, hit.scope
    return Hit(
        memory=memory.name,
        question=memory.question,
        answer=memory.text,
        lesson=memory.lesson,
        create_time=memory.create_time.ToDatetime(tzinfo=UTC),
        is_active=memory.state == memory_pb2.Memory.STATE_ACTIVE,
        is_correction=memory.type == memory_pb2.MEMORY_TYPE_CORRECTION,
        is_in_scope=decision.verdict == search_pb2.ScopeDecision.VERDICT_IN_SCOPE,
        is_exact=decision.reason == search_pb2.ScopeDecision.REASON_EXACT_KEY,
        is_related=decision.reason == search_pb2.ScopeDecision.REASON_RELATED,
        score=hit.score,
        # NOTE: not `score`, which ranks within one reply and says nothing by itself.
        similarity=hit.scores.dense if hit.scores.HasField("dense") else None,
        decision=decision,
    )
