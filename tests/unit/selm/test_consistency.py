"""Consistency tokens."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selm.consistency import decode, encode
from selm.errors import SelmError


@given(st.integers(min_value=0, max_value=2**63))
def test_a_token_holds_its_sequence(sequence: int) -> None:
    """What was encoded is decoded."""
    assert sequence == decode(encode("FEEDBACK", sequence))


@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_anything_else_is_invalid(text: str) -> None:
    """No text makes it fail in another way."""
    with pytest.raises(SelmError) as refused:
        decode(text)

    assert refused.value.reason == "CURSOR_INVALID"


def test_an_altered_token_and_one_of_another_stream_are_invalid() -> None:
    """One wrong letter is noticed."""
    token = encode("FEEDBACK", 812)
    altered = token[:-1] + ("A" if token[-1] != "A" else "B")

    for wrong in (altered, token + "AAAA", encode("LESSONS", 812)):
        with pytest.raises(SelmError, match="malformed or altered"):
            decode(wrong)


def test_a_negative_position_is_a_bug() -> None:
    """Nobody may hand out a place before the first message."""
    with pytest.raises(ValueError, match="negative"):
        encode("FEEDBACK", -1)
