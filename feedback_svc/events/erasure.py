"""Messages that an erasure looks at or leaves behind."""

from collections.abc import Sequence, Set
from datetime import UTC, datetime

from google.protobuf.message import DecodeError, Message

from selm.api.event.v1.feedback_event_pb2 import (
    ErasedEvent,
    FeedbackErased,
    FeedbackEventCreated,
    LessonAdvanced,
)
from selm.api.event.v1.inference_event_pb2 import GenerationFinished
from selm.delivery import Delivery, M
from selm.erasures import ErasedEvent as Erased
from selm.lesson_events import datetime_of


class ErasureCodec:
    """Translates what is purged."""

    def feedback_erased(self, erasure: str, events: Sequence[Erased]) -> Message:
        message = FeedbackErased(
            erasure=erasure,
            events=[
                ErasedEvent(
                    feedback_event=event.name,
                    digest=event.digest,
                    lesson=event.lesson,
                    author=event.author,
                    target=event.target,
                )
                for event in events
            ],
        )
        message.event_time.FromDatetime(datetime.now(UTC))
        return message

    def stored_event(self, delivery: Delivery) -> tuple[Erased, int]:
        """What is to be left of a stored event, and where it was first recorded."""
        message = delivery.parse(FeedbackEventCreated)
        event = message.feedback_event
        erased = Erased(
            name=event.name,
            digest=message.digest,
            lesson=event.lesson,
            author=event.author,
            target=event.generation or event.conversation,
        )
        return erased, event.sequence or delivery.sequence

    def is_generation_of(
        self, message_type: str, payload: bytes, user: str, until: datetime
    ) -> bool:
        """Whether a user asked for this generation, no later than then."""
        message = _parsed(GenerationFinished, message_type, payload)
        if message is None:
            return False
        generation = message.generation
        return generation.user == user and datetime_of(generation.create_time) <= until

    def is_about(self, message_type: str, payload: bytes, names: Set[str]) -> bool:
        """Whether a message is one of these events, or a step of one of these lessons."""
        event = _parsed(FeedbackEventCreated, message_type, payload)
        if event is not None:
            return event.feedback_event.name in names
        step = _parsed(LessonAdvanced, message_type, payload)
        return step is not None and step.lesson in names


def _parsed(kind: type[M], message_type: str, payload: bytes) -> M | None:
    """The message; None if it is of another type, or nobody can read it."""
    if message_type != kind.DESCRIPTOR.full_name:
        return None
    try:
        return kind.FromString(payload)
    except DecodeError:
        return None
