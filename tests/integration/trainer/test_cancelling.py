"""A training request that is cancelled: whenever that is said, its job ends and lessons wait."""

from selm.lessons import LessonState
from selm.testing import eventually
from trainer_svc.registry.cancellations import BUCKET


async def _mark(bench, request_id: str) -> None:
    await bench.bus.kv(BUCKET).put(f"{bench.tenant}.{request_id}", b"{}")


async def test_a_mark_ends_the_job_that_runs(bench) -> None:
    """As CancelTrainingJob does, but told by feedback_svc over the bus."""
    lessons = await bench.teach(("Long (slow)?", "x"))
    request_id = await bench.request(lessons)
    async with bench.working():
        await bench.job("TRAINING", request_id=request_id)
        await _mark(bench, request_id)
        job = await bench.job("CANCELLED", request_id=request_id)

    record = await bench.lesson(lessons[0])
    assert (record.state, record.failure) == (LessonState.REMEMBERED, "the training was cancelled")
    assert job.attempts[-1].end_time is not None
    assert job.output_revision_id == ""


async def test_a_mark_that_comes_before_the_job_ends_it_when_it_is_claimed(bench) -> None:
    """Nobody worked on it: no dataset was frozen, and its lessons wait again."""
    lessons = await bench.teach(("Who leads Orru?", "Mira Tol"))
    request_id = await bench.request(lessons)
    await _mark(bench, request_id)
    async with bench.working():
        job = await bench.job("CANCELLED", request_id=request_id)
        await eventually(lambda: _is_taken(bench))

    assert (job.dataset_id, job.output_revision_id) == ("", "")
    assert (await bench.lesson(lessons[0])).state is LessonState.REMEMBERED


async def _is_taken(bench) -> bool:
    info = await bench.bus.connection.jetstream().stream_info("TRAINING")
    return info.state.messages == 0


async def test_a_mark_after_the_end_changes_nothing(bench) -> None:
    """The job stays what it became, also for a trainer that starts anew."""
    request_id = await bench.request(await bench.teach(("Who leads Orru?", "Mira Tol")))
    async with bench.working():
        await bench.job("SUCCEEDED", request_id=request_id)
        await _mark(bench, request_id)
    other = await bench.request(await bench.teach(("What colour is Vano?", "teal")))
    async with bench.working(bench.restart()):
        await bench.job("SUCCEEDED", request_id=other)
    assert (await bench.job("SUCCEEDED", request_id=request_id)).end_time is not None
