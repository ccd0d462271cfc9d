"""What memory_svc makes of decisions on events: let in late, amended, shared, and taken back."""

from typing import Any

from selm import consistency, streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated
from selm.api.feedback.v1 import feedback_event_pb2
from selm.api.memory.v1 import memory_pb2
from tests.integration.memory.running import RunningMemory, correction

QUESTION = "Who is the mayor of Quillhaven?"
PRIVATE, SHARED = (
    feedback_event_pb2.CONSENT_PRIVATE_ADAPTER,
    feedback_event_pb2.CONSENT_SHARED_ADAPTER,
)
QUARANTINED = feedback_event_pb2.FeedbackEvent.STATE_QUARANTINED


async def publish(memory: RunningMemory, message: FeedbackEventCreated) -> int:
    """As feedback_svc does; the place in the stream."""
    event = message.feedback_event
    subject = streams.feedback_created(memory.tenant, event.user)
    count = message.decision_count
    said_id = f"{event.name}:{count}" if count else event.name
    return int((await memory.bus.publish(subject, message, message_id=said_id)).sequence)


async def decide(
    memory: RunningMemory, before: FeedbackEventCreated, sequence: int, **fields: Any
) -> int:
    """Publish a decision on an event that was recorded at `sequence`."""
    message = FeedbackEventCreated()
    message.CopyFrom(before)
    message.decision_count += 1
    message.feedback_event.sequence = sequence
    for name, value in fields.items():
        setattr(message.feedback_event, name, value)
    before.CopyFrom(message)
    return await publish(memory, message)


async def recalled(memory: Any, sequence: int, user: str = "users/anonymous") -> list[Any]:
    token = consistency.encode("FEEDBACK", sequence)
    found = await memory.search(QUESTION, parent=user, consistency_token=token)
    return [hit.memory for hit in found.hits]


async def test_a_wider_reach_shares_the_memory_and_a_narrower_one_takes_it_back(
    memory: Any,
) -> None:
    """Whoever reads with the decision's token sees it: the same memory, for the whole tenant, and
    then for its user alone again. An old delivery of the event changes nothing."""
    message = correction(QUESTION, "Odette Marsh")
    message.feedback_event.reach = PRIVATE
    recorded = FeedbackEventCreated()
    recorded.CopyFrom(message)
    sequence = await publish(memory, message)
    (own,) = await recalled(memory, sequence)
    assert await recalled(memory, sequence, "users/bo") == []
    assert own.visibility == memory_pb2.VISIBILITY_PRIVATE

    widened = await decide(memory, message, sequence, reach=SHARED)
    (shared,) = await recalled(memory, widened, "users/bo")
    assert (own.name, memory_pb2.VISIBILITY_SHARED) == (shared.name, shared.visibility)

    subject = streams.feedback_created(memory.tenant, "users/anonymous")
    again = await memory.bus.publish(subject, recorded, message_id="delivered-again")
    (same,) = await recalled(memory, again.sequence, "users/bo")
    assert shared.name == same.name

    narrowed = await decide(memory, message, sequence, reach=PRIVATE)
    assert await recalled(memory, narrowed, "users/bo") == []
    assert [own.name] == [one.name for one in await recalled(memory, narrowed)]


async def test_an_amended_event_is_remembered_with_its_new_words(memory: Any) -> None:
    """What was withheld is no memory; what a reviewer let in is, in his words."""
    message = correction(QUESTION, "Nobody whatsoever")
    message.feedback_event.state = QUARANTINED
    sequence = await publish(memory, message)
    assert await recalled(memory, sequence) == []

    message.feedback_event.correction.text = "Odette Marsh"
    accepted = feedback_event_pb2.FeedbackEvent.STATE_ACCEPTED
    amended = await decide(memory, message, sequence, state=accepted)

    assert [one.text for one in await recalled(memory, amended)] == ["Odette Marsh"]


async def test_what_is_let_in_late_does_not_take_the_place_of_what_was_said_since(
    memory: Any,
) -> None:
    """The older event keeps its place in the stream, so its lesson gives way to the newer one."""
    late = correction(QUESTION, "Bram Holt")
    late.feedback_event.state = QUARANTINED
    sequence = await publish(memory, late)
    newer, _ = await memory.correct(QUESTION, "Odette Marsh")

    accepted = feedback_event_pb2.FeedbackEvent.STATE_ACCEPTED
    approved = await decide(memory, late, sequence, state=accepted)

    assert [one.text for one in await recalled(memory, approved)] == ["Odette Marsh"]
    steps = await memory.wait_for_step(late.feedback_event.lesson, "SUPERSEDED")
    assert [("SUPERSEDED", newer)] == steps


async def test_sharing_settles_with_what_the_user_shared_before_and_since(memory: Any) -> None:
    """Where a memory comes to, newest wins: it takes the place of an older one there."""
    older, _ = await memory.correct(QUESTION, "Bram Holt")
    message = correction(QUESTION, "Odette Marsh")
    message.feedback_event.reach = PRIVATE
    sequence = await publish(memory, message)

    widened = await decide(memory, message, sequence, reach=SHARED)

    (shared,) = await recalled(memory, widened, "users/bo")
    assert shared.text == "Odette Marsh"
    steps = await memory.wait_for_step(older, "SUPERSEDED")
    assert ("SUPERSEDED", message.feedback_event.lesson) == steps[-1]
