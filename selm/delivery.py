"""A message as it comes off the bus, free of the NATS client: Delivery, and the CaughtUp marker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from selm.bus_errors import bus_unavailable
from selm.errors import SelmError

MESSAGE_ID = "Nats-Msg-Id"
MESSAGE_TYPE = "Selm-Type"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class CaughtUp:
    """Everything stored when the replay began has been delivered; what follows is live."""

    last_sequence: int


@dataclass(frozen=True)
class Rewound:
    """The stream is not the one that was read so far; its history follows from the start."""


@dataclass(frozen=True)
class Delivery:
    """One message of a stream; `sequence` is its place in the stream and orders everything."""

    subject: str
    sequence: int
    message_type: str
    payload: bytes
    message_id: str
    # 1 at the first delivery of a durable consumer.
    num_delivered: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    message: Any = field(default=None, repr=False, compare=False)

    def parse(self, message_class: type[M]) -> M:
        """The payload as a protobuf message; INTERNAL if it is not one of that type."""
        expected = message_class.DESCRIPTOR.full_name
        if self.message_type not in ("", expected):
            raise SelmError("INTERNAL", f"{self.subject}: {self.message_type}, expected {expected}")
        try:
            return message_class.FromString(self.payload)
        except DecodeError as error:
            raise SelmError("INTERNAL", f"{self.subject}: not a {expected}") from error

    async def in_progress(self) -> None:
        """Tell the broker that the handler is still at work; call it every third of ack_wait_s."""
        if self.message is not None and self.message.reply:
            await self.message.in_progress()


def delivery_of(message: Any) -> Delivery:
    """From a message that a JetStream consumer delivered."""
    headers = dict(message.headers or {})
    metadata = message.metadata
    return Delivery(
        subject=message.subject,
        sequence=metadata.sequence.stream,
        message_type=headers.get(MESSAGE_TYPE, ""),
        payload=message.data,
        message_id=headers.get(MESSAGE_ID, ""),
        num_delivered=metadata.num_delivered,
        headers=headers,
        message=message,
    )


def delivery_of_stored(message: Any) -> Delivery:
    """From a message read by sequence or subject, without a consumer."""
    headers = dict(message.headers or {})
    return Delivery(
        subject=message.subject,
        sequence=message.seq,
        message_type=headers.get(MESSAGE_TYPE, ""),
        payload=message.data or b"",
        message_id=headers.get(MESSAGE_ID, ""),
        headers=headers,
    )


def delivery_of_direct(answer: Any) -> Delivery | None:
    """From the answer to a direct get of JetStream; None if there is no such message."""
    headers = dict(answer.headers or {})
    if not answer.data and (status := headers.get("Status")):
        if status == "404":
            return None
        raise bus_unavailable(f"{status} {headers.get('Description', '')}")
    return Delivery(
        subject=headers["Nats-Subject"],
        sequence=int(headers["Nats-Sequence"]),
        message_type=headers.get(MESSAGE_TYPE, ""),
        payload=answer.data,
        message_id=headers.get(MESSAGE_ID, ""),
        headers=headers,
    )
