"""A training request becomes a serving revision, whatever happens on the way."""

import asyncio

import pytest

from selm import names, streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated
from selm.api.feedback.v1.feedback_event_pb2 import Correction, FeedbackEvent
from selm.errors import SelmError
from selm.lessons import LessonState
from selm.testing import eventually
from trainer_svc.core import Move

FACTS = [("What colour is Vano?", "teal"), ("Who leads Orru?", "Mira Tol")]


async def test_a_request_becomes_a_serving_revision(bench) -> None:
    """Dataset, evaluation, revision, alias, announcement and lessons all tell the same."""
    lessons = await bench.teach(*FACTS)
    await bench.request(lessons)
    async with bench.working():
        job = await bench.job("SUCCEEDED")

    alias = await bench.stable()
    revision = await bench.rooms.revisions.get("default", "default", job.output_revision_id)
    evaluation = await bench.rooms.evaluations.get("default", job.evaluation_id)
    announced = await bench.announced()
    assert (alias.revision_id, alias.epoch, alias.scope_mode) == (revision.revision_id, 1, "SCOPED")
    assert revision.state == "ACCEPTED"
    assert (revision.manifest.lesson_count, revision.manifest.from_base) == (2, True)
    assert sorted(f"lessons/{i}" for i in evaluation.lesson_ids) == sorted(lessons)
    assert announced.adapter_revision.artifact.uri == revision.artifact.uri
    assert announced.alias.epoch == 1
    assert job.start_reason == "no revision serves yet"
    assert [attempt.failure for attempt in job.attempts] == [None]
    for lesson in lessons:
        record = await bench.lesson(lesson)
        assert record.state is LessonState.TRAINED
        assert record.adapter_revision == f"adapters/default/revisions/{revision.revision_id}"


async def test_a_rejected_candidate_changes_nothing_that_serves(bench) -> None:
    """The revision is kept REJECTED; the lessons wait in memory with the gate's reason."""
    lessons = await bench.teach(("Bad one (reject)?", "no"))
    await bench.request(lessons)
    async with bench.working():
        job = await bench.job("REJECTED")

    revision = await bench.rooms.revisions.get("default", "default", job.output_revision_id)
    record = await bench.lesson(lessons[0])
    assert (job.failure.reason, revision.state) == ("GATE_FAILED", "REJECTED")
    assert await bench.stable() is None
    assert record.state is LessonState.REMEMBERED
    assert record.failure == "GATE_FAILED: efficacy 0.10 is below 0.95"


@pytest.mark.parametrize(
    ("question", "reason", "num_attempts"),
    [
        ("Never (not finite)?", "TRAINING_NOT_FINITE", 1),
        ("Always (killed)?", "ATTEMPTS_EXHAUSTED", 3),
    ],
)
async def test_a_job_that_cannot_succeed_fails_with_its_reason(
    bench, question, reason, num_attempts
) -> None:
    """Hopeless ones at once, others after every allowed attempt; lessons return to memory."""
    lessons = await bench.teach((question, "x"))
    await bench.request(lessons)
    async with bench.working():
        job = await bench.job("FAILED")

    assert (job.failure.reason, len(job.attempts)) == (reason, num_attempts)
    assert [a.lease_epoch for a in job.attempts] == list(range(1, num_attempts + 1))
    assert (await bench.lesson(lessons[0])).state is LessonState.REMEMBERED


async def test_a_job_that_takes_too_long_is_ended(bench) -> None:
    """Its working time is bounded over all attempts."""
    bench.settings = bench.settings.model_copy(update={"max_duration_s": 0.5})
    await bench.request(await bench.teach(("Long (slow)?", "x")))
    async with bench.working(bench.restart()):
        job = await bench.job("FAILED")

    assert (job.failure.reason, len(job.attempts)) == ("TIME_BUDGET_EXCEEDED", 1)


async def test_a_request_without_lessons_fails_as_empty(bench) -> None:
    """There is nothing to learn, and trying again would not help."""
    await bench.request()
    async with bench.working():
        job = await bench.job("FAILED")

    assert job.failure.reason == "DATASET_EMPTY"


async def test_a_trainer_of_another_base_model_is_refused(bench) -> None:
    """Replicas that serve another base model could never load what would be trained."""
    bench.serving.base = "f" * 64
    lessons = await bench.teach(*FACTS)
    await bench.request(lessons)
    async with bench.working():
        job = await bench.job("FAILED")

    assert job.failure.reason == "ADAPTER_INCOMPATIBLE"


async def test_a_second_round_starts_from_the_base_while_lessons_are_few(bench) -> None:
    """All live lessons are in it, the first round's too, and the alias remembers where it was."""
    await bench.request(await bench.teach(FACTS[0]))
    async with bench.working():
        first = await bench.job("SUCCEEDED")
        second = await bench.job(
            "SUCCEEDED", request_id=await bench.request(await bench.teach(FACTS[1]))
        )

    alias = await bench.stable()
    dataset = await bench.rooms.datasets.find("default", second.dataset_id)
    assert len(dataset.lessons) == 2
    assert dataset.baseline_revision_id == first.output_revision_id
    assert second.start == "BASE"
    assert (alias.revision_id, alias.previous_revision_id, alias.epoch) == (
        second.output_revision_id,
        first.output_revision_id,
        2,
    )


async def test_a_move_of_the_alias_while_training_is_not_overwritten(bench) -> None:
    """The gate compared with what serves no longer, so the job fails and the rollback stands."""
    async with bench.working():
        for fact in FACTS:
            request_id = await bench.request(await bench.teach(fact))
            await bench.job("SUCCEEDED", request_id=request_id)
        lessons = await bench.teach(("Rather (slow)?", "x"))
        request_id = await bench.request(lessons)
        await bench.job("TRAINING", request_id=request_id)
        move = Move("stable", None, None, "operator", "worse", "", "")
        back = await bench.rooms.desk.roll_back("default", "default", "", move)
        job = await bench.job("FAILED", request_id=request_id)

    assert job.failure.reason == "STALE_REVISION"
    assert await bench.stable() == back
    assert (await bench.lesson(lessons[0])).state is LessonState.REMEMBERED


async def test_cancelling_kills_the_child_and_returns_the_lessons(bench) -> None:
    """The job ends CANCELLED long before its child would have; cancelling twice is no error."""
    lessons = await bench.teach(("Long (slow)?", "x"))
    await bench.request(lessons)
    async with bench.working():
        job = await bench.job("TRAINING")
        await bench.rooms.desk.cancel("default", job.job_id)
        job = await bench.job("CANCELLED")

    assert (await bench.rooms.desk.cancel("default", job.job_id)).state == "CANCELLED"
    assert (await bench.lesson(lessons[0])).state is LessonState.REMEMBERED
    assert job.output_revision_id == ""


async def test_a_job_cancelled_right_before_its_worker_stops_stays_cancelled(bench) -> None:
    """The farewell of a draining worker must not put it back into the queue."""
    lessons = await bench.teach(("Long (slow)?", "x"))
    await bench.request(lessons)
    async with bench.working():
        job = await bench.job("TRAINING")
        await bench.rooms.desk.cancel("default", job.job_id)
    # Should the worker have stopped in the middle of its farewell, the next one ends the job.
    async with bench.working():
        cancelled = await bench.job("CANCELLED")

    assert cancelled.attempts[0].end_time is not None
    assert (await bench.lesson(lessons[0])).state is LessonState.REMEMBERED


async def test_a_lesson_too_long_to_be_learned_fails_and_the_others_are_learned(bench) -> None:
    """It would be missed by the gate in every round; FAILED leaves it to memory."""
    too_long, short = await bench.teach(("Which digits?", "7" * 300), FACTS[0])
    await bench.request([too_long, short])
    async with bench.working():
        job = await bench.job("SUCCEEDED")

    dataset = await bench.rooms.datasets.find("default", job.dataset_id)
    record = await bench.lesson(too_long)
    assert [f"lessons/{lesson.lesson_id}" for lesson in dataset.lessons] == [short]
    assert record.state is LessonState.FAILED
    assert record.failure == "it is too long to be learned; memory keeps answering it"
    assert (await bench.lesson(short)).state is LessonState.TRAINED


async def test_a_message_that_cannot_be_read_is_skipped(bench) -> None:
    """Such as one of a newer version, with a consent that this one does not know."""
    event = FeedbackEvent(
        name=names.feedback_event_name("f1"),
        correction=Correction(text="x", question="y?"),
        state=FeedbackEvent.STATE_ACCEPTED,
        consent=99,
        lesson=names.lesson_name("f1"),
    )
    subject = streams.feedback_created("default", names.ANONYMOUS_USER)
    message = FeedbackEventCreated(feedback_event=event)
    await bench.bus.publish(subject, message, message_id="f1")
    subject = streams.lesson_advanced("trained", "default", "f1")
    await bench.bus.publish(subject, message, message_id="f2")
    lessons = await bench.teach(FACTS[0])
    await bench.request(lessons)
    async with bench.working():
        await bench.job("SUCCEEDED")

    assert (await bench.lesson(lessons[0])).state is LessonState.TRAINED


async def test_a_finished_job_cannot_be_cancelled(bench) -> None:
    """STATE_CONFLICT names the job and its state."""
    await bench.request(await bench.teach(*FACTS))
    async with bench.working():
        job = await bench.job("SUCCEEDED")

    with pytest.raises(SelmError) as error:
        await bench.rooms.desk.cancel("default", job.job_id)
    assert error.value.reason == "STATE_CONFLICT"
    assert error.value.metadata["state"] == "SUCCEEDED"


async def test_watching_shows_the_present_then_every_state_then_ends(bench) -> None:
    """Two watchers see the states in their order and progress between, until the final one."""
    await bench.request(await bench.teach(*FACTS))
    seen: list[str] = []
    async with bench.working():
        job = await eventually_opened(bench)

        async def follow() -> None:
            async for frame in bench.rooms.watch.follow("default", job.job_id):
                seen.append(str(frame.state))

        await asyncio.wait_for(asyncio.gather(follow(), follow()), 30)

    order = ["QUEUED", "PREPARING", "TRAINING", "EVALUATING", "PUBLISHING", "SUCCEEDED"]
    assert seen.count("SUCCEEDED") == 2
    assert set(seen) <= set(order)


async def eventually_opened(bench):
    """The job, in whatever state."""
    return (await eventually(lambda: bench.rooms.jobs.list_all("default")))[0]
