"""Consistency tokens: an opaque position in a stream, so that a read can wait for a write.

feedback_svc and memory_svc hand them out, memory_svc waits for them. Knows no stream, no clock.
"""

import base64
import binascii
import zlib

from selm.errors import SelmError

_MAX_TOKEN_CHARACTERS = 256


def encode(stream: str, sequence: int) -> str:
    """The token of one position; sequence 0 is the position before the first message."""
    if sequence < 0:
        raise ValueError(f"sequence is negative: {sequence}")
    body = f"{stream}:{sequence}".encode()
    sealed = zlib.crc32(body).to_bytes(4, "big") + body
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def decode(token: str, stream: str = "FEEDBACK") -> int:
    """The sequence of a token of that stream; CURSOR_INVALID if it is altered or of another one."""
    body = _open(token)
    found_stream, _, sequence = body.partition(":")
    if found_stream != stream or not sequence.isascii() or not sequence.isdecimal():
        raise _invalid()
    return int(sequence)


def _open(token: str) -> str:
    if len(token) > _MAX_TOKEN_CHARACTERS or not token.isascii():
        raise _invalid()
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        body = sealed[4:].decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise _invalid() from error
    # The sum finds damage, not forgery: a token grants nothing, it only makes its reader wait.
    if len(sealed) < 5 or zlib.crc32(sealed[4:]).to_bytes(4, "big") != sealed[:4]:
        raise _invalid()
    return body


def _invalid() -> SelmError:
    return SelmError(
        "CURSOR_INVALID",
        "consistency_token is malformed or altered",
        metadata={"field": "consistency_token"},
    )
