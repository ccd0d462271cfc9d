"""What a fault of the Milvus client means: is the server lost, slow, busy, or is it our statement?

Knows the exceptions of pymilvus and gRPC, and no connection.
"""

from enum import Enum, auto

import grpc
from pymilvus.exceptions import ConnectError, MilvusException, MilvusUnavailableException

# The client raises the first two, by kind of fault; a channel closed under it gives the last.
FAULTS = (MilvusException, grpc.RpcError, TimeoutError, OSError, ValueError)

# Server away; collection unknown or released, as after a restart: opening anew prepares it again.
_LOST_CODES = frozenset({2, 100, 101})
# Memory, disk or rate limit, and writes denied: the load of others, and it passes.
_BUSY_CODES = frozenset({3, 5, 7, 8, 9})
# Said of a client that another task has closed.
_CLOSED = ("closed channel", "channel is closed", "should create connection first")
_REFUSING_STATUSES = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)
# Of a wrong token too: what is to be stored has to wait until the operator mends it.
_BUSY_STATUSES = frozenset(
    {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)


class Fault(Enum):
    """What to do about it."""

    LOST = auto()  # open a new connection
    SLOW = auto()  # ask whether the server is there at all
    BUSY = auto()  # the same again may succeed, over the same connection
    REFUSED = auto()  # the same again is refused again


def fault_of(error: BaseException) -> Fault:
    """The kind of a fault; a statement of ours is blamed only if nothing else is known."""
    if any(words in str(error).lower() for words in _CLOSED):
        return Fault.LOST
    if isinstance(error, TimeoutError):
        return Fault.SLOW
    if isinstance(error, MilvusException):
        return _of_milvus(error)
    if isinstance(error, grpc.RpcError):
        return _of_status(error.code() if hasattr(error, "code") else None)
    return Fault.LOST if isinstance(error, OSError) else Fault.REFUSED


def text_of(error: BaseException) -> str:
    """For the log."""
    return f"{type(error).__name__}: {error}"[:300]


def _of_milvus(error: MilvusException) -> Fault:
    if isinstance(error.code, grpc.StatusCode):
        return _of_status(error.code)
    if isinstance(error, ConnectError | MilvusUnavailableException) or error.code in _LOST_CODES:
        return Fault.LOST
    if isinstance(error.__cause__, TimeoutError) or "Retry timeout" in error.message:
        return Fault.SLOW
    if isinstance(error.__cause__, grpc.RpcError):
        return fault_of(error.__cause__)
    if error.code in _BUSY_CODES or error.retriable:
        return Fault.BUSY
    return Fault.REFUSED


def _of_status(status: grpc.StatusCode | None) -> Fault:
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Fault.SLOW
    if status in _REFUSING_STATUSES:
        return Fault.REFUSED
    return Fault.BUSY if status in _BUSY_STATUSES else Fault.LOST
