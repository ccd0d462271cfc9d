"""Parsing what came off the bus, and the back-off of a failing handler."""

import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from selm.consumer import back_off_s
from selm.delivery import Delivery
from selm.errors import SelmError


def _delivery(message_type: str, payload: bytes) -> Delivery:
    return Delivery("selm.x.y.t", 1, message_type, payload, "id")


def test_a_payload_of_the_named_type_is_parsed() -> None:
    """The header says what the bytes are."""
    payload = StringValue(value="x").SerializeToString()

    assert _delivery("google.protobuf.StringValue", payload).parse(StringValue).value == "x"


def test_a_payload_of_another_type_is_refused() -> None:
    """Protobuf would parse almost any bytes into almost any message."""
    with pytest.raises(SelmError, match=r"google\.protobuf\.StringValue"):
        _delivery("google.protobuf.StringValue", b"").parse(Int64Value)


def test_broken_bytes_are_an_error_of_ours() -> None:
    """A consumer dead-letters it like any other failure."""
    with pytest.raises(SelmError) as failure:
        _delivery("", b"\xff\xff").parse(StringValue)

    assert failure.value.reason == "INTERNAL"


async def test_in_progress_of_a_replayed_message_is_harmless() -> None:
    """Handlers need not know where a message came from."""
    await _delivery("", b"").in_progress()


def test_back_off_doubles_up_to_half_a_minute() -> None:
    """Deliveries spread out without ever stopping."""
    assert [back_off_s(n) for n in (1, 2, 3, 7, 8, 1000)] == [0.5, 1.0, 2.0, 30.0, 30.0, 30.0]
