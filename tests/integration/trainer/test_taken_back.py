"""What may not be taught any more by the time that its training is done is not promoted."""

from typing import Any

import pytest

from selm import names, streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated
from selm.api.feedback.v1.feedback_event_pb2 import Consent
from selm.lessons import LessonState


async def narrow(bench: Any, lesson: str) -> None:
    """Its authors agree no longer: feedback_svc says the event again, with less reach."""
    subjects = [streams.any_of(f"selm.feedback.created.{bench.tenant}")]
    for delivery in await bench.bus.read(streams.FEEDBACK.name, subjects):
        message = delivery.parse(FeedbackEventCreated)
        event = message.feedback_event
        if event.lesson == lesson:
            event.sequence = delivery.sequence
            event.reach = Consent.CONSENT_PRIVATE_ADAPTER
            message.decision_count += 1
            await bench.bus.publish(delivery.subject, message, message_id=f"{event.name}:1")


async def delete_memory(bench: Any, lesson: str) -> None:
    """Whoever taught it deleted what is remembered of it."""
    memory = names.memory_name("anonymous", lesson.partition("/")[2])
    await bench.step(lesson, LessonState.FAILED, memory, "memory_svc")


@pytest.mark.parametrize("take_back", [narrow, delete_memory])
async def test_a_job_whose_lesson_is_taken_back_meanwhile_does_not_serve(
    bench: Any, take_back: Any
) -> None:
    """The other lessons wait, and the next job teaches them alone."""
    lost, kept = await bench.teach(("(slow) Whose is it?", "Ana's"), ("And that?", "Bo's"))
    async with bench.working():
        await bench.request([lost, kept])
        await bench.job("TRAINING")
        await take_back(bench, lost)
        job = await bench.job("FAILED")
        waiting = await bench.lesson(kept)
        serving = await bench.stable()
        again = await bench.job("SUCCEEDED", request_id=await bench.request([kept]))

    assert (job.failure.reason, job.failure.metadata["lesson"]) == ("STATE_CONFLICT", lost)
    assert serving is None
    assert (waiting.state, waiting.failure.partition(":")[0]) == (
        LessonState.REMEMBERED,
        "STATE_CONFLICT",
    )
    held = await bench.rooms.evaluations.get(bench.tenant, again.evaluation_id)
    assert [names.lesson_name(lesson_id) for lesson_id in held.lesson_ids] == [kept]


async def test_a_lesson_that_a_newer_one_took_the_place_of_does_not_hold_up_its_job(
    bench: Any,
) -> None:
    """It was right when it was said."""
    older, _ = await bench.teach(("(slow) Whose is it?", "Ana's"), ("And that?", "Bo's"))
    async with bench.working():
        await bench.request([older])
        await bench.job("TRAINING")
        (newer,) = await bench.teach(("(slow) Whose is it?", "Cy's"))
        await bench.step(older, LessonState.SUPERSEDED, newer, "memory_svc")
        await bench.job("SUCCEEDED")
