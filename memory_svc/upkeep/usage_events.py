"""What the bus says of how memories were used: generations made with them, and what users said.

Consumers `memory_usage` of GENERATIONS and `memory_opinion` of FEEDBACK. Every message may come
twice, and then counts twice.
"""

from dataclasses import dataclass

from memory_svc.core import owner_of
from memory_svc.ports import MemoryStore
from memory_svc.upkeep.usage import Usage, judge
from selm import names, streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated
from selm.api.event.v1.inference_event_pb2 import GenerationFinished
from selm.api.feedback.v1 import feedback_event_pb2
from selm.api.inference.v1.generation_pb2 import Generation
from selm.api.memory.v1 import memory_pb2, search_pb2
from selm.bus import Bus
from selm.delivery import Delivery
from selm.lesson_events import datetime_of

USAGE = "memory_usage"
OPINION = "memory_opinion"
# Ratings have no common middle, so they say nothing here.
_QUORUM = "quorum"
_THUMBS = {
    int(feedback_event_pb2.THUMBS_UP): "agreed_count",
    int(feedback_event_pb2.THUMBS_DOWN): "disagreed_count",
}
_FEEDBACK_SUBJECTS = (streams.any_of("selm.feedback.created"),)


@dataclass(frozen=True)
class UsedMemory:
    """A memory that shaped an answer."""

    memory_id: str
    # The question may have been about something else.
    is_related: bool


class UsageEvents:
    """The two consumers."""

    def __init__(self, bus: Bus, usage: Usage, store: MemoryStore) -> None:
        self._bus = bus
        self._usage = usage
        self._store = store

    async def count_uses(self) -> None:
        """Runs until cancelled: each finished generation counts for the memories it used."""
        await self._bus.consume(
            streams.GENERATIONS.name,
            USAGE,
            self._on_generation,
            subjects=streams.GENERATIONS.subjects,
            batch=64,
        )

    async def count_opinions(self) -> None:
        """Runs until cancelled: feedback counts for the memories that its generation used."""
        await self._bus.consume(
            streams.FEEDBACK.name, OPINION, self._on_feedback, subjects=_FEEDBACK_SUBJECTS, batch=64
        )

    async def _on_generation(self, delivery: Delivery) -> None:
        event = delivery.parse(GenerationFinished)
        tenant = streams.tenant_of(delivery.subject)
        time = datetime_of(event.event_time)
        used = used_memories(event.generation)
        # All reads first: while the store is away this is tried again and again.
        verdicts = [await self._verdict(tenant, each, event.generation) for each in used]
        for each, verdict in zip(used, verdicts, strict=True):
            counts = ["injected_count", *filter(None, [verdict])]
            self._usage.add(tenant, each.memory_id, *counts, time=time)

    async def _on_feedback(self, delivery: Delivery) -> None:
        message = delivery.parse(FeedbackEventCreated)
        event = message.feedback_event
        # The quorum decides how far an event goes: the event itself counted before.
        opinion = "" if message.decider == _QUORUM else opinion_of(event)
        ids = names.parse(names.GENERATION, event.generation)
        if not opinion or ids is None:
            return
        tenant = streams.tenant_of(delivery.subject)
        subject = streams.generation_finished(tenant, ids[0])
        found = await self._bus.last(streams.GENERATIONS.name, subject)
        if found is None:
            return
        generation = found.parse(GenerationFinished).generation
        used = used_memories(generation)
        verdicts = [await self._verdict(tenant, each, generation) for each in used]
        for each, verdict in zip(used, verdicts, strict=True):
            # What is merely related may be innocent of a wrong answer; and the text may have said
            # so already.
            if verdict != opinion and not (each.is_related and opinion == "disagreed_count"):
                self._usage.add(tenant, each.memory_id, opinion)

    async def _verdict(self, tenant: str, used: UsedMemory, generation: Generation) -> str:
        """What the text of the answer says, if it is stored."""
        answer = generation.candidates[0].text if generation.candidates else ""
        if not generation.content_stored or not answer:
            return ""
        memory = await self._store.get(tenant, used.memory_id)
        return "" if memory is None else judge(memory, answer, is_related=used.is_related)


def used_memories(generation: Generation) -> list[UsedMemory]:
    """The memories that shaped an answer."""
    used = (m for m in generation.memories if m.use > memory_pb2.MEMORY_USE_NONE)
    return [
        UsedMemory(
            memory_id=owner_of(m.memory)[1],
            is_related=m.scope.reason == search_pb2.ScopeDecision.REASON_RELATED,
        )
        for m in used
        if names.parse(names.MEMORY, m.memory)
    ]


def opinion_of(event: feedback_event_pb2.FeedbackEvent) -> str:
    """The count that a user's signal adds to; "" if it is neither good nor bad."""
    if event.state != feedback_event_pb2.FeedbackEvent.STATE_ACCEPTED:
        return ""
    signal = event.WhichOneof("signal")
    if signal == "thumbs":
        return _THUMBS.get(int(event.thumbs), "")
    return "disagreed_count" if signal == "correction" else ""
