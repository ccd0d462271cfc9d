"""Lessons are proven on the serving revision, and given back when it serves no longer."""

import asyncio

from selm import names
from selm.api.error.v1.error_reason_pb2 import ErrorReason, Failure
from selm.lessons import LessonState
from selm.testing import eventually
from trainer_svc.core import Move
from trainer_svc.training.templates import held_out_paraphrases

VANO = ("What colour is Vano?", "teal")
ORRU = ("Who leads Orru?", "Mira Tol")


def knows(bench, *facts: tuple[str, str], paraphrases: int = 99) -> None:
    """From now on the serving side answers these, and so many rewordings of each."""
    for question, answer in facts:
        for text in (question, *held_out_paraphrases(question)[:paraphrases]):
            bench.serving.answers[text] = f"It is {answer}."


async def learned(bench, *facts: tuple[str, str]) -> tuple[str, list[str]]:
    """Trains the facts; the revision that serves then, and their lessons."""
    lessons = await bench.teach(*facts)
    request_id = await bench.request(lessons)
    job = await bench.job("SUCCEEDED", request_id=request_id)
    bench.serving.revision_id = job.output_revision_id
    return job.output_revision_id, lessons


async def test_a_lesson_answered_without_memory_is_verified(bench) -> None:
    """Question and at least half of the paraphrases right: VERIFIED on that revision."""
    knows(bench, VANO, paraphrases=2)
    async with bench.working():
        revision, lessons = await learned(bench, VANO)
        await bench.acknowledge(revision)
        record = await bench.lesson_in(lessons[0], LessonState.VERIFIED)

    assert record.adapter_revision == names.revision_name("default", revision)


async def test_a_lesson_that_fails_stays_trained_with_a_reason_and_is_not_asked_for_ever(
    bench,
) -> None:
    """A second acknowledgement asks nothing; the reason says what was wrong."""
    knows(bench, VANO, paraphrases=1)
    async with bench.working():
        revision, lessons = await learned(bench, VANO)
        await bench.acknowledge(revision)

        async def judged():
            record = await bench.lesson(lessons[0])
            return record if record.transitions[-1].reason else None

        record = await eventually(judged)
        num_asked = bench.serving.num_asked
        await bench.acknowledge(revision)
        await asyncio.sleep(1.0)

    assert record.state is LessonState.TRAINED
    assert record.transitions[-1].reason.startswith("not verified: question right, 1 of")
    assert bench.serving.num_asked == num_asked


async def test_verification_waits_for_an_inference_that_is_down(bench) -> None:
    """Neither the outage nor a restart of the trainer loses the lesson."""
    knows(bench, VANO)
    async with bench.working():
        revision, lessons = await learned(bench, VANO)
        bench.serving.is_down = True
        await bench.acknowledge(revision)
        await asyncio.sleep(1.0)
    assert (await bench.lesson(lessons[0])).state is LessonState.TRAINED

    async with bench.working(bench.restart()):
        bench.serving.is_down = False
        record = await bench.lesson_in(lessons[0], LessonState.VERIFIED)

    assert record.adapter_revision == names.revision_name("default", revision)


async def test_a_proven_lesson_is_not_asked_again_in_the_next_revision(bench) -> None:
    """The new revision holds it still; only the new lesson is examined."""
    knows(bench, VANO, ORRU)
    async with bench.working():
        first, old = await learned(bench, VANO)
        await bench.acknowledge(first)
        await bench.lesson_in(old[0], LessonState.VERIFIED)
        num_asked = bench.serving.num_asked
        second, new = await learned(bench, ORRU)
        await bench.acknowledge(second)
        await bench.lesson_in(new[0], LessonState.VERIFIED)

    num_wordings = 1 + len(held_out_paraphrases(ORRU[0]))
    assert bench.serving.num_asked - num_asked == num_wordings
    assert (await bench.lesson(old[0])).adapter_revision == names.revision_name("default", first)


async def test_a_refused_revision_is_kept_as_the_reason_of_its_job(bench) -> None:
    """The replica goes on with what it served; operators find why."""
    async with bench.working():
        revision, _ = await learned(bench, VANO)
        reason = ErrorReason.ERROR_REASON_ADAPTER_INCOMPATIBLE
        await bench.acknowledge(revision, Failure(reason=reason, message="another base model"))

        async def refused():
            job = (await bench.rooms.jobs.list_all("default"))[0]
            return job if job.failure else None

        job = await eventually(refused)

    assert job.failure.reason == "ADAPTER_INCOMPATIBLE"
    assert job.failure.message == "replicas/one refused it: another base model"


async def test_a_rollback_gives_back_only_what_the_earlier_revision_lacks(bench) -> None:
    """Rolling back again goes forward; the lesson counts as trained anew."""
    knows(bench, VANO, ORRU)
    async with bench.working():
        first, old = await learned(bench, VANO)
        await bench.acknowledge(first)
        await bench.lesson_in(old[0], LessonState.VERIFIED)
        second, new = await learned(bench, ORRU)
        await bench.acknowledge(second)
        await bench.lesson_in(new[0], LessonState.VERIFIED)

        back = await bench.rooms.desk.roll_back("default", "default", "", move("worse answers"))
        record = await bench.lesson(new[0])
        assert (back.revision_id, back.previous_revision_id) == (first, second)
        assert (await bench.lesson(old[0])).state is LessonState.VERIFIED
        assert record.state is LessonState.REMEMBERED
        assert "worse answers" in record.failure
        assert (await bench.announced()).alias.epoch == back.epoch == 3

        forward = await bench.rooms.desk.roll_back("default", "default", "", move())
        assert (forward.revision_id, forward.epoch) == (second, 4)
        await bench.acknowledge(second)
        await bench.lesson_in(new[0], LessonState.VERIFIED)


async def test_announcements_lost_in_a_crash_are_made_at_the_next_start(bench) -> None:
    """The registry is the truth; a starting trainer compares the stream with it."""
    async with bench.working():
        first, _ = await learned(bench, VANO)
        second, new = await learned(bench, ORRU)
    # The alias moves and nobody is told, as if the trainer had died right then.
    await bench.rooms.adapters.roll_back("default", "default", "", move())
    assert (await bench.announced()).adapter_revision.name.endswith(second)

    async with bench.working(bench.restart()):

        async def told():
            return (await bench.announced()).adapter_revision.name.endswith(first)

        await eventually(told)
        await bench.lesson_in(new[0], LessonState.REMEMBERED)


def move(reason: str = "") -> Move:
    return Move("stable", None, None, "operator", reason, "", "")
