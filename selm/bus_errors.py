"""Broker failures in the project's words: the one translation from nats-py exceptions."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
import nats.js.errors

from selm.errors import SelmError

# Stream, account or disk is full, and our streams discard nothing silently.
_FULL_CODES = frozenset({10023, 10028, 10047, 10077})
_TOO_LARGE_CODES = frozenset({10054})


class PullLostError(Exception):
    """Nothing more will come through this pull: bind again, with a new consumer if need be."""


class BatchRefusedError(Exception):
    """Nothing of the batch was stored; its members one by one get each their own answer."""


# What a reader survives by binding again. A MaxPayloadError or a bug is not among them.
LOSSES = (PullLostError, SelmError, nats.errors.Error, asyncio.TimeoutError, OSError)


def bus_unavailable(message: str) -> SelmError:
    """The broker did not answer; it may be stored all the same, so repeat with the same id."""
    return SelmError("BUS_UNAVAILABLE", message, retry_after_s=1.0)


@contextmanager
def broker_errors() -> Iterator[None]:
    """Raise SelmError instead of whatever the broker or its client raised."""
    try:
        yield
    except nats.errors.MaxPayloadError as error:
        raise SelmError("MESSAGE_TOO_LARGE", "larger than the bus accepts") from error
    except nats.js.errors.APIError as error:
        raise _from_api(error) from error
    except (TimeoutError, PullLostError, nats.errors.Error, OSError) as error:
        raise bus_unavailable(f"{type(error).__name__} {error}".strip()) from error


def _from_api(error: nats.js.errors.APIError) -> SelmError:
    text = f"{error.err_code} {error.description}"
    if error.err_code in _FULL_CODES:
        return SelmError("STORAGE_FULL", text)
    if error.err_code in _TOO_LARGE_CODES:
        return SelmError("MESSAGE_TOO_LARGE", text)
    return bus_unavailable(text)
