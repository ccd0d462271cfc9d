"""What the others say of an erasure on the bus, for tests of one service's part of it."""

import uuid
from datetime import UTC, datetime

from selm import names, streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackErased
from selm.bus import Bus
from selm.erasure_bus import ErasureStream
from selm.erasures import FEEDBACK, ErasedEvent, ErasureOrder, Receipt, ReceiptState
from selm.testing import eventually


async def order(bus: Bus, tenant: str, user: str) -> ErasureOrder:
    """feedback_svc was asked to forget a user."""
    name = names.erasure_name(uuid.uuid4().hex)
    made = ErasureOrder(tenant, name, user, datetime.now(UTC), requester="root")
    await ErasureStream(bus).order(made)
    return made


async def purge_feedback(bus: Bus, made: ErasureOrder, *events: ErasedEvent) -> None:
    """feedback_svc has done its first half: the events are named and purged."""
    message = FeedbackErased(erasure=made.name)
    for event in events:
        message.events.add(feedback_event=event.name, lesson=event.lesson)
    subject = streams.feedback_erased(made.tenant)
    await bus.publish(subject, message, message_id=uuid.uuid4().hex)
    jetstream = bus.connection.jetstream()
    subject = streams.feedback_created(made.tenant, made.user)
    await jetstream.purge_stream(streams.FEEDBACK.name, subject=subject)
    await ErasureStream(bus).tell(made, Receipt(FEEDBACK, ReceiptState.HIDDEN))


async def receipt(bus: Bus, made: ErasureOrder, service: str, state: ReceiptState) -> Receipt:
    """A service's receipt, once it has come so far."""

    async def reached() -> Receipt | None:
        erasure = await ErasureStream(bus).erasure(made.tenant, made.name)
        assert erasure is not None
        said = erasure.receipt(service)
        return said if said.state is state else None

    found = await eventually(reached, timeout_s=60)
    assert found is not None
    return found
