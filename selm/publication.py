"""A message on its way to a stream, and the broker's receipt for it. Knows no connection."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.message import Message

from selm.delivery import MESSAGE_ID, MESSAGE_TYPE

# What the batch headers and the framing of one header line add, generously.
_OVERHEAD_BYTES = 256


@dataclass(frozen=True)
class PublishAck:
    """The broker has it on disk. `duplicate`: an earlier publish with this id already did."""

    stream: str
    sequence: int
    duplicate: bool


@dataclass(frozen=True)
class Publication:
    """One message to store; a repeat keeps `message_id` and is then stored once."""

    subject: str
    payload: bytes
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        subject: str,
        message: Message,
        message_id: str,
        headers: Mapping[str, str] | None = None,
    ) -> "Publication":
        """A protobuf message, with its type told to whoever reads it."""
        typed = {**(headers or {}), MESSAGE_TYPE: message.DESCRIPTOR.full_name}
        return cls(subject, message.SerializeToString(), message_id, typed)

    @property
    def all_headers(self) -> dict[str, str]:
        return {**self.headers, MESSAGE_ID: self.message_id}

    @property
    def num_bytes(self) -> int:
        """An upper bound of what it takes on the connection."""
        headers = sum(len(key) + len(value) + 4 for key, value in self.headers.items())
        sizes = (len(self.subject), len(self.payload), len(self.message_id), headers)
        return sum(sizes) + _OVERHEAD_BYTES
