"""What memory_svc makes of authors who agree: each keeps his own memory, and it is found once."""

from typing import Any

import pytest

from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated
from selm.api.memory.v1 import memory_pb2
from selm.api.memory.v1 import memory_service_pb2 as pb
from tests.integration.memory.running import RunningMemory, correction
from tests.integration.memory.test_decisions import (
    PRIVATE,
    QUESTION,
    SHARED,
    decide,
    publish,
    recalled,
)

ANSWER = "Odette Marsh"
READER = "users/cy"


class Said:
    """A correction of an author that waits for others to agree."""

    def __init__(self, memory: RunningMemory, message: FeedbackEventCreated, sequence: int) -> None:
        self._memory = memory
        self._message = message
        self._sequence = sequence
        self.lesson = message.feedback_event.lesson

    async def reach(self, reach: Any) -> int:
        """Its authors' agreement lets it go so far; the place of the decision."""
        return await decide(self._memory, self._message, self._sequence, reach=reach)


async def said_by(
    memory: RunningMemory, author: str, user: str, answer: str = ANSWER, reach: Any = PRIVATE
) -> Said:
    message = correction(QUESTION, answer, user=user)
    message.feedback_event.author = author
    message.feedback_event.reach = reach
    return Said(memory, message, await publish(memory, message))


async def names_of(memory: RunningMemory, user: str) -> dict[str, str]:
    """Its live memories by the lesson that each carries."""
    request = pb.ListMemoriesRequest(parent=user)
    listed = await memory.stub.ListMemories(request, metadata=memory.metadata)
    return {
        one.lesson: one.name
        for one in listed.memories
        if one.state == memory_pb2.Memory.STATE_ACTIVE
    }


async def delete(memory: RunningMemory, name: str) -> None:
    await memory.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), metadata=memory.metadata)


# By user: a tenant may let all its authors speak for one.
@pytest.mark.parametrize("users", [("users/ann", "users/ann"), ("users/ann", "users/bo")])
@pytest.mark.parametrize("is_older_first", [True, False])
async def test_what_one_said_still_answers_when_the_memory_of_the_other_goes(
    memory: Any, users: tuple[str, str], is_older_first: bool
) -> None:
    """Shared one after the other, whichever was said first. The one that stays answers for the
    tenant as long as it is shared, then for its user alone."""
    both = [await said_by(memory, author, user) for author, user in zip("ab", users, strict=True)]
    for said in both if is_older_first else reversed(both):
        shared = await said.reach(SHARED)
    assert [one.text for one in await recalled(memory, shared, READER)] == [ANSWER]
    gone, stays = both if is_older_first else reversed(both)

    await delete(memory, (await names_of(memory, users[both.index(gone)]))[gone.lesson])

    assert [one.lesson for one in await recalled(memory, shared, READER)] == [stays.lesson]
    narrowed = await stays.reach(PRIVATE)
    assert await recalled(memory, narrowed, READER) == []
    (own,) = await recalled(memory, narrowed, users[both.index(stays)])
    assert own.lesson == stays.lesson
    assert "SUPERSEDED" not in [state for state, _ in await memory.steps(stays.lesson)]


async def test_another_answer_takes_the_place_of_all_who_agreed(memory: Any) -> None:
    """Of one user the newest word counts, whoever said it."""
    both = [await said_by(memory, author, "users/ann", reach=SHARED) for author in "ab"]
    newer = await said_by(memory, "c", "users/ann", "Bram Holt", reach=SHARED)

    for said in both:
        steps = await memory.wait_for_step(said.lesson, "SUPERSEDED")
        assert ("SUPERSEDED", newer.lesson) == steps[-1]
    assert list(await names_of(memory, "users/ann")) == [newer.lesson]
