"""A lesson proven on one revision is asked again on every other one that comes to serve."""

import asyncio

from selm import names
from selm.lessons import LessonState
from selm.testing import eventually
from tests.integration.trainer.test_verifying import ORRU, VANO, knows, learned, move


async def proven_on(bench, lesson: str, revision: str):
    """The lesson, once it counts as proven on that revision."""
    name = names.revision_name("default", revision)

    async def probe():
        record = await bench.lesson(lesson)
        is_proven = record.state in (LessonState.VERIFIED, LessonState.RETIRED)
        return record if is_proven and record.adapter_revision == name else None

    return await eventually(probe)


async def retired(bench, lesson: str) -> None:
    """Memory takes note of a proven lesson, as memory_svc does."""
    memory = names.memory_name("anonymous", lesson.partition("/")[2])
    await bench.step(lesson, LessonState.RETIRED, memory, "memory_svc")
    await bench.lesson_in(lesson, LessonState.RETIRED)


async def test_a_retired_lesson_is_proven_again_on_the_next_revision(bench) -> None:
    """It stays RETIRED, now by the revision that serves; once is enough for all replicas."""
    knows(bench, VANO, ORRU)
    async with bench.working():
        first, old = await learned(bench, VANO)
        await bench.acknowledge(first)
        await bench.lesson_in(old[0], LessonState.VERIFIED)
        await retired(bench, old[0])
        second, new = await learned(bench, ORRU)
        await bench.acknowledge(second)
        await bench.lesson_in(new[0], LessonState.VERIFIED)
        record = await proven_on(bench, old[0], second)
        num_asked = bench.serving.num_asked
        await bench.acknowledge(second)
        await asyncio.sleep(1.0)

    assert record.state is LessonState.RETIRED
    assert bench.serving.num_asked == num_asked


async def test_a_retired_lesson_that_the_next_revision_forgot_goes_back_to_memory(bench) -> None:
    """REMEMBERED revives its memory; neither a restart nor another replica undoes that."""
    knows(bench, VANO, ORRU)
    async with bench.working():
        first, old = await learned(bench, VANO)
        await bench.acknowledge(first)
        await bench.lesson_in(old[0], LessonState.VERIFIED)
        await retired(bench, old[0])
        del bench.serving.answers[VANO[0]]
        second, new = await learned(bench, ORRU)
        await bench.acknowledge(second)
        await bench.lesson_in(new[0], LessonState.VERIFIED)
        record = await bench.lesson_in(old[0], LessonState.REMEMBERED)
    async with bench.working(bench.restart()):
        await bench.acknowledge(second)
        await asyncio.sleep(1.0)

    assert record.failure.startswith("not verified: question answered")
    assert (await bench.lesson(old[0])).state is LessonState.REMEMBERED


async def test_a_rollback_asks_the_earlier_revision_again(bench) -> None:
    """What the later one proved is not known of the earlier one."""
    knows(bench, VANO, ORRU)
    async with bench.working():
        first, old = await learned(bench, VANO)
        await bench.acknowledge(first)
        await bench.lesson_in(old[0], LessonState.VERIFIED)
        second, _ = await learned(bench, ORRU)
        await bench.acknowledge(second)
        await proven_on(bench, old[0], second)
        await bench.rooms.desk.roll_back("default", "default", "", move())
        bench.serving.revision_id = first
        await bench.acknowledge(first)
        await proven_on(bench, old[0], first)
