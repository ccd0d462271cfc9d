"""Whether memory_svc made one memory of each acknowledged correction, and of nothing else."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from selm import streams
from selm.api.event.v1.feedback_event_pb2 import LessonAdvanced
from selm.api.memory.v1 import memory_pb2, memory_service_pb2_grpc
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.bus import Bus
from selm.lesson_events import step_of
from selm.lessons import LessonState
from tests.feedback_chaos.checker import Violation
from tests.feedback_chaos.clients import METADATA, TENANT
from tests.feedback_chaos.history import History
from tests.feedback_chaos.plan import is_correction, user_of

_PAGE = 500


def taught(history: History) -> dict[str, str]:
    """Lesson of each acknowledged correction, and what it teaches."""
    lessons = {}
    for label, answer in history.acknowledged.items():
        saying = history.sayings[label]
        if is_correction(saying):
            lessons[answer.lesson] = saying.content.signal.partition(" -> ")[2]
    return lessons


async def wait_until_remembered(bus: Bus, history: History, timeout_s: float) -> list[Violation]:
    """Wait until memory_svc has caught up; what is still missing then, or remembered twice."""
    wanted, deadline = taught(history).keys(), time.monotonic() + timeout_s
    while True:
        memories = await _memories_by_lesson(bus)
        missing = wanted - memories.keys()
        if not missing or time.monotonic() > deadline:
            break
        await asyncio.sleep(1)
    return [
        *(Violation("forgotten", f"{lesson} is not REMEMBERED") for lesson in sorted(missing)),
        *(
            Violation("remembered twice", f"{lesson} as {sorted(names)}")
            for lesson, names in memories.items()
            if len(names) > 1
        ),
        *(
            Violation("remembered", f"{lesson}, which nobody taught")
            for lesson in sorted(memories.keys() - wanted)
        ),
    ]


async def _memories_by_lesson(bus: Bus) -> dict[str, set[str]]:
    prefix = f"selm.lesson.remembered.{TENANT}"
    memories: dict[str, set[str]] = defaultdict(set)
    for delivery in await bus.read(streams.LESSONS.name, [streams.any_of(prefix)]):
        message = delivery.parse(LessonAdvanced)
        step = step_of(message)
        if step is not None and step.state is LessonState.REMEMBERED:
            memories[message.lesson].add(step.resource)
    return memories


async def check_memories(target: str, history: History, num_clients: int) -> list[Violation]:
    """Compare what memory_svc holds with what was taught, text by text."""
    held: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(target) as channel:
        stub = memory_service_pb2_grpc.MemoryServiceStub(channel)
        for client in range(num_clients):
            held.update([memory.text async for memory in _memories(stub, user_of(client))])
    return list(_differences(Counter(taught(history).values()), held))


async def _memories(stub: Any, user: str) -> AsyncIterator[memory_pb2.Memory]:
    token = ""
    while True:
        request = pb.ListMemoriesRequest(parent=user, page_size=_PAGE, page_token=token)
        reply = await stub.ListMemories(request, metadata=METADATA, timeout=30)
        for memory in reply.memories:
            yield memory
        token = reply.next_page_token
        if not token:
            return


def _differences(wanted: Counter[str], held: Counter[str]) -> Iterator[Violation]:
    for text in sorted(wanted.keys() | held.keys()):
        if wanted[text] != held[text]:
            yield Violation("memory", f"{text!r}: {held[text]} memories, {wanted[text]} lessons")
