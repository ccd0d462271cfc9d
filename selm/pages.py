"""Page tokens: a cursor that only fits the query it came from. Knows no store and no request."""

import base64
import binascii
import hashlib
import hmac

from selm.errors import SelmError

DEVELOPMENT_KEY = "selm-development"
_MAC_BYTES = 16
_key = DEVELOPMENT_KEY.encode()


def configure(key: str) -> None:
    """Sets the deployment's key once at start: all replicas must accept each other's tokens."""
    global _key
    _key = key.encode()


def digest(*parts: object) -> str:
    """A short fingerprint of a query: tenant, parent, filter, order; never the page size."""
    # The length of each part keeps ("ab", "c") apart from ("a", "bc").
    text = "".join(f"{len(str(part))}:{part}" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def encode(query_digest: str, cursor: str) -> str:
    """The token for the page after `cursor` of this query."""
    payload = cursor.encode()
    return base64.urlsafe_b64encode(_mac(query_digest, payload) + payload).rstrip(b"=").decode()


def decode(token: str, query_digest: str) -> str:
    """The cursor inside; CURSOR_INVALID if the token is malformed, altered, or of another query."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if hmac.compare_digest(mac, _mac(query_digest, payload)):
            return payload.decode()
    except (binascii.Error, ValueError):
        pass  # Answered below, exactly like an altered token.
    raise SelmError(
        "CURSOR_INVALID",
        "the page token is malformed, altered, or of another query",
        metadata={"field": "page_token"},
    )


def _mac(query_digest: str, payload: bytes) -> bytes:
    message = query_digest.encode() + b"\0" + payload
    return hmac.digest(_key, message, "sha256")[:_MAC_BYTES]
