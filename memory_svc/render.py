"""Core to protobuf: memories, hits and the gate's decisions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from memory_svc.core import Memory
from memory_svc.gate import Hit, ScopeDecision
from memory_svc.search import Found
from memory_svc.supersession import Outcome
from selm.api.memory.v1 import memory_pb2, search_pb2
from selm.api.memory.v1 import memory_service_pb2 as pb


def render_memory(memory: Memory, now: datetime) -> memory_pb2.Memory:
    wire = memory_pb2.Memory(
        name=memory.name,
        type=_number(memory.type),
        text=memory.text,
        question=memory.question,
        subject_key=memory.subject_key,
        visibility=_number(memory.visibility),
        conversation=memory.conversation,
        labels=dict(memory.labels),
        state=_number(memory.state_at(now)),
        feedback_event=memory.feedback_event,
        generation=memory.generation,
        lesson=memory.lesson,
        author=memory.author,
        superseded_by=memory.superseded_by,
        retired_by_revision=memory.retired_by_revision,
        duplicate_count=memory.duplicate_count,
        embedding_model=memory.embedding_model,
    )
    wire.create_time.FromDatetime(memory.create_time)
    wire.update_time.FromDatetime(memory.update_time)
    if memory.expire_time is not None:
        wire.expire_time.FromDatetime(memory.expire_time)
    return wire


def render_created(outcome: Outcome, token: str, now: datetime) -> pb.CreateMemoryResponse:
    replaced = [item.memory.name for item in outcome.superseded if not outcome.is_duplicate]
    return pb.CreateMemoryResponse(
        memory=render_memory(outcome.memory, now),
        superseded_memory=replaced[0] if replaced else "",
        duplicate=outcome.is_duplicate,
        consistency_token=token,
    )


def render_page(
    memories: Sequence[Memory], next_page_token: str, now: datetime
) -> pb.ListMemoriesResponse:
    wires = [render_memory(memory, now) for memory in memories]
    return pb.ListMemoriesResponse(memories=wires, next_page_token=next_page_token)


def render_found(found: Found, now: datetime) -> pb.SearchMemoriesResponse:
    return pb.SearchMemoriesResponse(
        hits=[_render_hit(hit, now) for hit in found.hits],
        empty_reason=_number(found.empty_reason),
    )


def _render_hit(hit: Hit, now: datetime) -> search_pb2.MemoryHit:
    memory = render_memory(hit.memory, now)
    return search_pb2.MemoryHit(memory=memory, score=hit.score, scope=_render_scope(hit.scope))


def _render_scope(scope: ScopeDecision) -> search_pb2.ScopeDecision:
    return search_pb2.ScopeDecision(
        verdict=_number(scope.verdict),
        reason=_number(scope.reason),
        score=scope.score,
        threshold=scope.threshold,
        missing_words=scope.missing_words,
    )


def _number(value: int) -> Any:
    """Our enums carry the numbers of the contract."""
    return int(value)
