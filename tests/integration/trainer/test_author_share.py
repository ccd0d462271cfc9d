"""No author fills a training set: what is beyond its share waits in memory, and says why."""

import uuid

from selm import names, streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated, TrainingRequested
from selm.api.feedback.v1.feedback_event_pb2 import Consent, Correction, FeedbackEvent
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.lessons import LessonState


async def _teach(bench, author: str, number: int) -> str:
    """A correction of this author, remembered; the name of its lesson."""
    event_id = uuid.uuid4().hex
    event = FeedbackEvent(
        name=names.feedback_event_name(event_id),
        correction=Correction(text=f"{author} {number}", question=f"Who is {author} {number}?"),
        user=names.ANONYMOUS_USER,
        author=author,
        adapter=names.DEFAULT_ADAPTER,
        consent=Consent.CONSENT_SHARED_ADAPTER,
        state=FeedbackEvent.STATE_ACCEPTED,
        lesson=names.lesson_name(event_id),
    )
    event.create_time.GetCurrentTime()
    subject = streams.feedback_created(bench.tenant, event.user)
    message = FeedbackEventCreated(feedback_event=event)
    await bench.bus.publish(subject, message, message_id=event_id)
    memory = names.memory_name("anonymous", event_id)
    await bench.step(event.lesson, LessonState.REMEMBERED, memory, "memory_svc")
    return event.lesson


async def test_lessons_beyond_the_share_of_their_author_return_to_memory(bench) -> None:
    """Of five by one author and one each by two others, the oldest of the one is trained."""
    flood = [await _teach(bench, "mallory", number) for number in range(5)]
    others = [await _teach(bench, author, 0) for author in ("ada", "bob")]
    request = TrainingRequest(
        name=names.training_request_name(uuid.uuid4().hex), adapter=names.DEFAULT_ADAPTER
    )
    for lesson in [*flood, *others]:
        await bench.step(lesson, LessonState.QUEUED, request.name, "feedback_svc")
    message = TrainingRequested(training_request=request, max_author_share=0.4)
    subject = streams.training_requested(bench.tenant)
    await bench.bus.publish(subject, message, message_id=request.name)
    async with bench.working():
        job = await bench.job("SUCCEEDED")

    dataset = await bench.rooms.datasets.find(bench.tenant, job.dataset_id)
    assert {names.lesson_name(i) for i in dataset.lesson_ids} == {flood[0], *others}
    for lesson in (flood[0], *others):
        assert (await bench.lesson(lesson)).state is LessonState.TRAINED
    for lesson in flood[1:]:
        record = await bench.lesson(lesson)
        assert record.state is LessonState.REMEMBERED
        assert record.failure == "its author has 40% of the dataset already"
