"""News of lessons that have no memory of their own, and of lessons that are proven again."""

from functools import partial
from typing import Any

from memory_svc.events import RETIRE
from selm import consistency
from selm.api.memory.v1 import memory_pb2, search_pb2
from selm.bus import Bus
from selm.lessons import LessonState
from selm.settings import SharedSettings
from selm.streams import LESSONS
from selm.testing import eventually
from tests.integration.memory.running import RunningMemory, running_memory

QUESTION = "Who is the mayor of Quillhaven?"
STATE = memory_pb2.Memory
REVISIONS = [f"adapters/default/revisions/r000000000000000{number}" for number in range(3)]


async def memory_becomes(memory: RunningMemory, state: int, revision: str) -> None:
    """Waits until the memory of QUESTION has that state and that revision."""
    states = [STATE.STATE_ACTIVE, STATE.STATE_RETIRED]

    async def look() -> bool:
        found = await memory.search(QUESTION, filter=search_pb2.MemoryFilter(states=states))
        (hit,) = found.hits
        return (hit.memory.state, hit.memory.retired_by_revision) == (state, revision)

    await eventually(look)


async def all_news_is_settled(memory: RunningMemory) -> bool:
    info = await memory.bus.connection.jetstream().consumer_info(LESSONS.name, RETIRE)
    return not (info.num_pending or info.num_ack_pending)


async def retired_count(memory: RunningMemory, lesson: str, count: int) -> bool:
    return [state for state, _ in await memory.steps(lesson)].count("RETIRED") == count


async def test_news_of_a_folded_lesson_is_ignored_and_is_no_dead_letter(memory: Any) -> None:
    """The second of three equal corrections has no row and carries no memory any more."""
    lessons = [await memory.correct(QUESTION, "Odette Marsh") for _ in range(3)]
    _, sequence = lessons[-1]
    await memory.search(QUESTION, consistency_token=consistency.encode("FEEDBACK", sequence))
    folded, newest = lessons[1][0], lessons[2][0]

    await memory.advance(LessonState.VERIFIED, folded, resource=REVISIONS[0])
    await memory.advance(LessonState.VERIFIED, newest, resource=REVISIONS[1])

    await memory.wait_for_step(newest, "RETIRED")
    await eventually(lambda: all_news_is_settled(memory), timeout_s=5)
    assert "RETIRED" not in [state for state, _ in await memory.steps(folded)]
    await memory_becomes(memory, STATE.STATE_RETIRED, REVISIONS[1])


async def test_news_waits_for_an_event_that_is_not_applied_yet(
    milvus_uri: str, nats_server: Any
) -> None:
    """Both are stored when the service starts; the event is the last of many to be applied."""
    shared = SharedSettings(nats_url=nats_server.url, log_format="json")
    async with Bus.open(shared, "neighbours") as bus:
        await bus.ready()
        neighbours = RunningMemory(None, bus, "early")  # type: ignore[arg-type]
        for number in range(20):
            await neighbours.correct(f"Who is the mayor of town {number}?", f"Mayor {number}")
        lesson, _ = await neighbours.correct(QUESTION, "Odette Marsh")
        await neighbours.advance(LessonState.VERIFIED, lesson, resource=REVISIONS[0])
    async with running_memory(milvus_uri, nats_server.url, tenant="early") as memory:
        await memory.bus.ready()
        await memory.wait_for_step(lesson, "RETIRED")
        await memory_becomes(memory, STATE.STATE_RETIRED, REVISIONS[0])


async def test_a_lesson_proven_by_another_revision_is_retired_again(memory: Any) -> None:
    """RETIRED is said of each proof, or the lesson stays VERIFIED; the newest is named."""
    lesson, _ = await memory.correct(QUESTION, "Odette Marsh")
    await memory.wait_for_step(lesson, "REMEMBERED")

    for number, revision in enumerate(REVISIONS, start=1):
        await memory.advance(LessonState.VERIFIED, lesson, resource=revision)
        await eventually(partial(retired_count, memory, lesson, number))
        await memory_becomes(memory, STATE.STATE_RETIRED, revision)


async def test_each_rollback_revives_and_each_proof_retires(memory: Any) -> None:
    """The same revision may come, go and come again."""
    lesson, _ = await memory.correct(QUESTION, "Odette Marsh")
    await memory.wait_for_step(lesson, "REMEMBERED")

    for number in (1, 2):
        await memory.advance(LessonState.VERIFIED, lesson, resource=REVISIONS[0])
        await eventually(partial(retired_count, memory, lesson, number))
        await memory_becomes(memory, STATE.STATE_RETIRED, REVISIONS[0])
        await memory.advance(LessonState.REMEMBERED, lesson, resource=REVISIONS[1])
        await memory_becomes(memory, STATE.STATE_ACTIVE, "")


async def test_the_message_of_a_retirement_names_its_revision(memory: Any) -> None:
    """The broker must not take the second for a copy of the first."""
    lesson, _ = await memory.correct(QUESTION, "Odette Marsh")
    await memory.wait_for_step(lesson, "REMEMBERED")
    await memory.advance(LessonState.VERIFIED, lesson, resource=REVISIONS[0])
    await memory.wait_for_step(lesson, "RETIRED")

    subject = f"selm.lesson.retired.{memory.tenant}.{lesson.split('/')[1]}"
    (said,) = await memory.bus.read(LESSONS.name, [subject])

    assert REVISIONS[0].split("/")[-1] in said.message_id
