"""Sayings as the contract spells them, and what the contract says as facts of a history."""

from collections.abc import Iterable

from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated
from selm.api.event.v1.inference_event_pb2 import GenerationFinished
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.feedback_service_pb2 import CreateFeedbackEventRequest
from selm.api.inference.v1.generation_pb2 import Candidate, Generation
from selm.api.inference.v1.input_pb2 import ChatInput, ChatMessage, GenerationInput, Role
from selm.delivery import Delivery
from tests.feedback_chaos.history import Content, Saying, Stored
from tests.feedback_chaos.plan import Question, correction_signal, rating_signal

_LABEL = "saying"


def generation_finished(question: Question) -> GenerationFinished:
    """As inference_svc publishes it."""
    message = ChatMessage(role=Role.ROLE_USER, text=question.text)
    generation = Generation(
        name=f"generations/{question.generation_id}",
        user="users/anonymous",
        content_stored=True,
        input=GenerationInput(chat=ChatInput(messages=[message])),
        candidates=[Candidate(text="I do not know.")],
    )
    return GenerationFinished(generation=generation, status_code="OK")


def request_of(saying: Saying) -> CreateFeedbackEventRequest:
    content = saying.content
    event = pb.FeedbackEvent(
        user=content.user,
        consent=pb.CONSENT_MEMORY_ONLY,
        labels={_LABEL: saying.label},
    )
    if content.target.startswith("generations/"):
        event.generation = content.target
    else:
        event.conversation = content.target
    kind, _, rest = content.signal.partition(" ")
    if kind == "rating":
        value, _, max_value = rest.partition(" of ")
        event.rating.value, event.rating.max_value = float(value), float(max_value)
    else:
        event.correction.question, _, event.correction.text = rest.partition(" -> ")
    return CreateFeedbackEventRequest(feedback_event=event, request_id=saying.request_id)


def content_of(event: pb.FeedbackEvent) -> Content:
    """What of an event its sender chose."""
    match event.WhichOneof("signal"):
        case "rating":
            signal = rating_signal(event.rating.value, event.rating.max_value)
        case "correction":
            signal = correction_signal(event.correction.question, event.correction.text)
        case other:
            signal = f"{other}, which nobody says here"
    return Content(event.user, event.generation or event.conversation, signal)


def stored_in(deliveries: Iterable[Delivery]) -> list[Stored]:
    """The creations among the messages of stream FEEDBACK; decisions repeat an event later."""
    stored = []
    for delivery in deliveries:
        message = delivery.parse(FeedbackEventCreated)
        if message.decision_count:
            continue
        event = message.feedback_event
        stored.append(
            Stored(
                sequence=delivery.sequence,
                subject=delivery.subject,
                name=event.name,
                label=event.labels.get(_LABEL, ""),
                content=content_of(event),
            )
        )
    return stored
