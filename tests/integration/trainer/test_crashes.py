"""A trainer may die between any two steps: the job still ends once, and right."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import psutil
import pytest

from selm.lessons import LessonState
from selm.testing import eventually

FACTS = [("What colour is Vano?", "teal"), ("Who leads Orru?", "Mira Tol")]


@asynccontextmanager
async def worker(bench, failpoints: str = ""):
    """A trainer process of its own; killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.trainer.worker",
        bench.settings.shared.nats_url,
        str(bench.settings.shared.data_dir),
        bench.settings.base_model,
        env={**os.environ, "SELM_FAILPOINTS": failpoints},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()


@pytest.mark.parametrize(
    "step",
    [
        "after_claim",
        "after_freeze",
        "after_train",
        "after_store",
        "after_revision",
        "after_alias",
        "before_ack",
    ],
)
async def test_a_trainer_killed_between_two_steps_loses_and_doubles_nothing(bench, step) -> None:
    """The next trainer converges: one revision, one move of the alias, each lesson TRAINED."""
    lessons = await bench.teach(*FACTS)
    await bench.request(lessons)
    async with worker(bench, f"trainer.{step}=exit(137)") as first:
        assert await asyncio.wait_for(first.wait(), 60) == 137
    async with worker(bench):
        job = await bench.job("SUCCEEDED")
        await eventually(lambda: is_queue_empty(bench))

    alias = await bench.stable()
    announced = await bench.announced()
    revisions = await bench.rooms.revisions.list_all("default", "default")
    assert [r.revision_id for r in revisions] == [job.output_revision_id]
    assert (alias.revision_id, alias.epoch) == (job.output_revision_id, 1)
    assert announced.alias.epoch == 1
    for lesson in lessons:
        record = await bench.lesson(lesson)
        steps = [transition.state for transition in record.transitions]
        assert steps.count(LessonState.TRAINED) == 1
    epochs = [attempt.lease_epoch for attempt in job.attempts]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) == (1 if step == "before_ack" else 2)


async def is_queue_empty(bench) -> bool:
    """The request was acknowledged."""
    return await bench.bus.last("TRAINING", "selm.training.requested.default") is None


async def test_a_trainer_killed_while_training_leaves_the_same_dataset(bench) -> None:
    """The job starts again from what was frozen, although more was taught since."""
    lessons = await bench.teach(("Long (slow)?", "x"))
    await bench.request(lessons)
    async with worker(bench) as first:
        job = await bench.job("TRAINING")
        children = psutil.Process(first.pid).children()
        first.kill()
        await first.wait()
    assert children
    # The child reads the end of its stdin and ends by itself.
    assert psutil.wait_procs(children, timeout=10)[1] == []
    await bench.teach(FACTS[0])
    async with worker(bench):
        again = await eventually(lambda: second_attempt(bench), timeout_s=30)

    dataset = await bench.rooms.datasets.find("default", again.dataset_id)
    assert again.dataset_id == job.dataset_id
    assert [lesson.question for lesson in dataset.lessons] == ["Long (slow)?"]
    assert [a.lease_epoch for a in again.attempts] == [1, 2]
    assert again.attempts[0].failure.reason == "LEASE_LOST"


async def second_attempt(bench):
    """The job, once a second worker trains it."""
    job = (await bench.rooms.jobs.list_all("default"))[0]
    return job if len(job.attempts) == 2 and job.state == "TRAINING" else None


async def test_a_frozen_trainer_that_wakes_up_cannot_touch_its_job(bench) -> None:
    """Its lease is lost to the second worker: one revision, one announcement, one move."""
    await bench.request(await bench.teach(("Rather (slow)?", "x")))
    async with worker(bench) as first:
        await bench.job("TRAINING")
        first.send_signal(signal.SIGSTOP)
        async with worker(bench):
            await eventually(lambda: second_attempt(bench), timeout_s=30)
            first.send_signal(signal.SIGCONT)
            job = await bench.job("SUCCEEDED", timeout_s=60)

    alias = await bench.stable()
    assert [a.lease_epoch for a in job.attempts] == [1, 2]
    assert (alias.revision_id, alias.epoch) == (job.output_revision_id, 1)


async def test_a_trainer_shut_down_gives_its_job_back_without_spending_an_attempt(bench) -> None:
    """The attempt ends DRAINING and the job is QUEUED for the next worker at once."""
    await bench.request(await bench.teach(("Long (slow)?", "x")))
    async with bench.working():
        await bench.job("TRAINING")
    job = await bench.job("QUEUED")

    assert job.attempts[0].failure.reason == "DRAINING"
    assert job.num_spent_attempts == 0
    work = bench.settings.work_dir
    assert [path for path in work.iterdir() if path.is_dir()] == []


async def test_two_workers_share_the_queue_without_doing_a_job_twice(bench) -> None:
    """Six requests of as many adapters: each one job, one attempt, one move."""
    for number in range(6):
        adapter = f"adapters/line-{number}"
        lessons = await bench.teach((f"What is {number}?", str(number)), adapter=adapter)
        await bench.request(lessons, adapter=f"line-{number}")
    async with bench.working(), bench.working(bench.restart()):

        async def all_done() -> bool:
            jobs = await bench.rooms.jobs.list_all("default")
            return len(jobs) == 6 and all(job.state == "SUCCEEDED" for job in jobs)

        await eventually(all_done, timeout_s=60)

    for number in range(6):
        adapter = await bench.rooms.adapters.get("default", f"line-{number}")
        assert adapter.alias("stable").epoch == 1
    jobs = await bench.rooms.jobs.list_all("default")
    assert [len(job.attempts) for job in jobs] == [1] * 6


async def test_an_outage_of_the_bus_while_training_spends_no_attempt(bench, nats_server) -> None:
    """The worker keeps its child and goes on when the broker is back."""
    await bench.request(await bench.teach(("Somewhat (slow)?", "x")))
    async with bench.working():
        await bench.job("TRAINING")
        nats_server.kill()
        await asyncio.sleep(1.0)
        nats_server.start()
        await bench.bus.wait_connected()
        job = await bench.job("SUCCEEDED", timeout_s=60)

    assert [attempt.failure for attempt in job.attempts] == [None]
    assert (await bench.stable()).epoch == 1
