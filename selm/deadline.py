"""How long the running RPC still has. grpc forwards no deadline by itself: pass remaining_s()."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from selm.errors import SelmError

# On the clock of the event loop; None means for ever.
_deadline: ContextVar[float | None] = ContextVar("selm_deadline", default=None)


def remaining_s(at_most: float | None = None) -> float | None:
    """Seconds until the caller stops waiting, never negative, capped; None if nothing limits it."""
    deadline = _deadline.get()
    if deadline is None:
        return at_most
    remaining = max(0.0, deadline - asyncio.get_running_loop().time())
    return remaining if at_most is None else min(remaining, at_most)


def set_deadline(seconds: float) -> None:
    """The client's own deadline, which gRPC enforces: the handler is cancelled when it passes."""
    _deadline.set(asyncio.get_running_loop().time() + seconds)


@asynccontextmanager
async def limit(seconds: float) -> AsyncIterator[None]:
    """Ends the block after so long; for callers that sent no deadline."""
    set_deadline(seconds)
    try:
        async with asyncio.timeout(seconds) as scope:
            yield
    except TimeoutError:
        if not scope.expired():
            raise
        raise SelmError(
            "DEADLINE_TOO_SHORT",
            f"ended after {seconds:g} s, this server's limit for calls that send no deadline",
            metadata={"limit": f"{seconds:g}s"},
        ) from None
