"""Lessons are proven on the serving revision, and given back when it serves no longer."""

import asyncio
import itertools
from dataclasses import replace

from selm import names, streams
from selm.api.error.v1 import error_reason_pb2
from selm.api.event.v1.adapter_event_pb2 import TrainingJobUpdated
from selm.lessons import LessonState
from selm.testing import eventually
from trainer_svc.core import Failure, Move
from trainer_svc.jobs import JobState, Order
from trainer_svc.registry.jobs import JobDefaults
from trainer_svc.training.templates import held_out_paraphrases

VANO = ("What colour is Vano?", "teal")
INCOMPATIBLE = error_reason_pb2.Failure(
    reason=error_reason_pb2.ERROR_REASON_ADAPTER_INCOMPATIBLE, message="another base model"
)
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


async def judged(bench, lesson: str):
    """The lesson, once its last step gives a reason."""

    async def probe():
        record = await bench.lesson(lesson)
        return record if record.transitions[-1].reason else None

    return await eventually(probe)


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
        record = await judged(bench, lessons[0])
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


async def test_an_answer_that_the_adapter_did_not_give_proves_nothing(bench) -> None:
    """The base model may know the answer; memory must not be retired for that."""
    knows(bench, VANO)
    bench.serving.is_adapter_applied = False
    async with bench.working():
        revision, lessons = await learned(bench, VANO)
        await bench.acknowledge(revision)
        record = await judged(bench, lessons[0])

    assert record.state is LessonState.TRAINED
    assert "0 of 4 paraphrases right" in record.transitions[-1].reason


async def test_another_revision_that_answers_is_waited_for_only_so_long(bench) -> None:
    """The lesson says why it stays TRAINED, and the next acknowledgement asks again."""
    knows(bench, VANO)
    seconds = itertools.count(step=40.0)
    verifier = replace(bench.rooms.verifier, clock=lambda: next(seconds))
    acknowledgements = replace(bench.rooms.acknowledgements, verifier=verifier)
    bench.rooms = replace(bench.rooms, acknowledgements=acknowledgements)
    async with bench.working():
        revision, lessons = await learned(bench, VANO)
        bench.serving.revision_id = "r0123456789abcdef"
        await bench.acknowledge(revision)
        record = await judged(bench, lessons[0])
        bench.serving.revision_id = revision
        await bench.acknowledge(revision)
        await bench.lesson_in(lessons[0], LessonState.VERIFIED)

    assert record.state is LessonState.TRAINED
    assert record.transitions[-1].reason.startswith("not asked yet: r0123456789abcdef answered")


async def test_a_refused_revision_is_kept_as_the_reason_of_its_job(bench) -> None:
    """The replica goes on with what it served; operators find why, and are told at once."""
    async with bench.working():
        revision, _ = await learned(bench, VANO)
        await bench.acknowledge(revision, INCOMPATIBLE)
        job = await eventually(lambda: refused_job(bench))

        async def told():
            subject = streams.training_job_updated("default", job.job_id)
            last = await bench.bus.last("JOBS", subject)
            return last.parse(TrainingJobUpdated).training_job.failure.message or None

        assert await eventually(told) == job.failure.message

    assert job.failure.reason == "ADAPTER_INCOMPATIBLE"
    assert job.failure.message == "replicas/one refused it: another base model"
    assert job.update_time > job.end_time


async def test_a_refusal_during_publishing_outlives_the_end_of_the_job(bench) -> None:
    """A replica may refuse before the job is SUCCEEDED: the end of the attempt keeps it."""
    jobs = bench.rooms.jobs
    job = await jobs.open(Order("default", "q1", "default"), JobDefaults())
    lease = await jobs.claim("default", job.job_id, "one")
    refusal = Failure("ADAPTER_INCOMPATIBLE", "another base model")
    await jobs.change("default", job.job_id, lambda held: replace(held, failure=refusal))
    await lease.end_attempt(JobState.SUCCEEDED, None)

    ended = await jobs.get("default", job.job_id)
    assert ended.state is JobState.SUCCEEDED
    assert ended.failure.reason == "ADAPTER_INCOMPATIBLE"


async def refused_job(bench):
    """The newest job, once it says why it was refused."""
    job = (await bench.rooms.jobs.list_all("default"))[0]
    return job if job.failure else None


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
