"""The live lessons and their watchers, without any broker."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from feedback_svc.stream.lessons import MAX_BUFFERED_FRAMES, LessonBook
from selm.errors import SelmError
from selm.lessons import Consent, LessonState, LessonStep
from tests.unit.lesson_records import LESSON

TIME = datetime(2030, 1, 1, tzinfo=UTC)
NAME = LESSON.name
S = LessonState


def book(**changes) -> LessonBook:
    made = LessonBook()
    made.receive(replace(LESSON, **changes))
    return made


def take(lessons: LessonBook, state: LessonState, resource: str = "x") -> None:
    lessons.step("default", NAME, LessonStep(state, "trainer_svc", resource, "", TIME))


async def test_a_watcher_sees_the_present_and_then_every_step():
    """Also steps taken while it was busy."""
    lessons = book()
    seen = []
    async with aclosing(lessons.watch("default", NAME)) as frames:
        seen.append((await anext(frames)).state)
        for state in (S.REMEMBERED, S.QUEUED, S.TRAINED, S.VERIFIED, S.RETIRED):
            take(lessons, state)
        seen += [frame.state async for frame in frames]
    assert seen == [S.RECEIVED, S.REMEMBERED, S.QUEUED, S.TRAINED, S.VERIFIED, S.RETIRED]


async def test_an_unknown_lesson_cannot_be_watched():
    """NOT_FOUND before any frame, also for another tenant's lesson."""
    for tenant, name in (("default", "lessons/none"), ("other", NAME)):
        with pytest.raises(SelmError) as caught:
            await anext(book().watch(tenant, name))
        assert caught.value.reason == "RESOURCE_NOT_FOUND"


async def test_a_watcher_that_does_not_read_is_let_go_and_slows_nobody():
    """Its buffer is bounded; after what it held it hears why."""
    lessons = book()
    async with (
        aclosing(lessons.watch("default", NAME)) as slow,
        aclosing(lessons.watch("default", NAME)) as quick,
    ):
        await anext(slow)
        await anext(quick)
        take(lessons, S.REMEMBERED)
        await anext(quick)
        for number in range(MAX_BUFFERED_FRAMES):
            take(lessons, S.QUEUED, f"trainingRequests/q{number}")
            assert (await anext(quick)).training_request == f"trainingRequests/q{number}"
        with pytest.raises(SelmError) as caught:
            async for _ in slow:
                pass
    assert caught.value.reason == "CLIENT_TOO_SLOW"


async def test_many_watchers_leave_nothing_behind():
    """Cancelled ones included."""
    lessons = book()

    async def watch() -> None:
        async with aclosing(lessons.watch("default", NAME)) as frames:
            async for _ in frames:
                pass

    tasks = [asyncio.create_task(watch()) for _ in range(100)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert lessons._watchers == {}


async def test_open_lessons_are_those_training_has_still_to_reach():
    """They leave when the weights have them, and return on a rollback."""
    lessons = book()
    assert lessons.open_groups() == [("default", "adapters/default")]
    take(lessons, S.TRAINED, "adapters/default/revisions/r1")
    assert lessons.open_groups() == []
    take(lessons, S.REMEMBERED, "adapters/default/revisions/r0")
    assert [x.name for x in lessons.open_lessons("default", "adapters/default")] == [NAME]
    take(lessons, S.FAILED)
    assert lessons.open_groups() == []


async def test_a_lesson_that_a_quorum_no_longer_shares_is_open_to_no_adapter():
    """Its adapter is taken away by a decision, and nothing of it stays behind."""
    lessons = book()
    take(lessons, S.REMEMBERED)
    lesson = lessons.find("default", NAME)
    assert lesson is not None
    lessons.receive(replace(lesson, adapter="", num_decisions=1, state=S.RECEIVED))
    assert lessons.open_groups() == []
    lessons.receive(replace(lesson, num_decisions=2, state=S.RECEIVED))
    assert lessons.open_groups() == [("default", "adapters/default")]


async def test_a_lesson_without_consent_to_train_is_never_open():
    """Memory alone carries it."""
    assert book(adapter="", consent=Consent.MEMORY_ONLY).open_groups() == []
