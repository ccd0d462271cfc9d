"""The layers around an RPC, each one concern: who, how long, how many, and how it ended."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import structlog
from grpc_status import rpc_status

from selm import deadline as deadlines
from selm.auth import authenticate, set_principal
from selm.errors import SelmError, from_rpc_error, to_status
from selm.metrics import RPC_IN_FLIGHT, RPC_SECONDS

CORRELATION_HEADER = "x-request-id"
# For handlers that were cancelled at the end of the grace; one that ignores it is left behind.
HANDLER_EXIT_S = 5.0
_CORRELATION_ID = re.compile(r"[\x21-\x7e]{1,128}")
# What the caller asked for does not exist here, so its name must not become a metric label.
_NAMELESS = frozenset({"NOT_IMPLEMENTED", "STARTING"})
_BUGS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})
logger = structlog.get_logger()


@dataclass
class Call:
    """One running RPC; the layers write down how it ends."""

    # Without the leading slash: selm.api.memory.v1.MemoryService/SearchMemories
    method: str
    context: Any
    metadata: Mapping[str, str]
    is_stream: bool
    correlation_id: str = ""
    tenant: str = ""
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""


@asynccontextmanager
async def context(call: Call) -> AsyncIterator[None]:
    """Gives the call its correlation id: taken from the caller, or made; echoed in trailers."""
    wanted = call.metadata.get(CORRELATION_HEADER, "")
    call.correlation_id = wanted if _CORRELATION_ID.fullmatch(wanted) else str(uuid.uuid4())
    call.context.set_trailing_metadata(((CORRELATION_HEADER, call.correlation_id),))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(correlation_id=call.correlation_id)
    yield


def telemetry(service: str) -> Callable[[Call], AbstractAsyncContextManager[None]]:
    """One canonical log line and one observation per RPC, however it ends."""
    in_flight = RPC_IN_FLIGHT.labels(service)

    @asynccontextmanager
    async def layer(call: Call) -> AsyncIterator[None]:
        started = time.perf_counter()
        in_flight.inc()
        try:
            yield
        except asyncio.CancelledError:
            # gRPC cancels the handler for both; which one it was only the clock still knows.
            is_late = call.context.time_remaining() is not None and deadlines.remaining_s() == 0
            status = grpc.StatusCode
            call.code = status.DEADLINE_EXCEEDED if is_late else status.CANCELLED
            raise
        finally:
            in_flight.dec()
            _observe(service, call, time.perf_counter() - started)

    return layer


def _observe(service: str, call: Call, duration_s: float) -> None:
    label = "unknown" if call.reason in _NAMELESS else call.method
    RPC_SECONDS.labels(service, label, call.code.name).observe(duration_s)
    fields = {"rpc": call.method, "code": call.code.name, "duration_ms": round(duration_s * 1e3, 2)}
    optional = {
        "reason": call.reason,
        "tenant": call.tenant,
        "correlation_id": call.correlation_id,
    }
    fields |= {key: value for key, value in optional.items() if value}
    write = logger.error if call.code in _BUGS else logger.info
    write("rpc", **fields)


@asynccontextmanager
async def errors(call: Call) -> AsyncIterator[None]:
    """Turns what a handler raises into a status; the text of a bug stays in the log."""
    try:
        yield
    except grpc.aio.AbortError:
        call.code = call.context.code() or grpc.StatusCode.UNKNOWN
        raise
    except Exception as error:
        if call.context.done():
            # The caller is gone, and writing to it failed: nobody reads a status.
            raise asyncio.CancelledError from error
        await _abort(call, _translated(error))


def _translated(error: Exception) -> SelmError:
    if isinstance(error, SelmError):
        if error.code in _BUGS:
            logger.error("rpc_failed", reason=error.reason, message=error.message)
        return error
    if isinstance(error, ExceptionGroup) and (inner := _only_leaf(error)) is not None:
        return _translated(inner)
    if isinstance(error, grpc.aio.AioRpcError):
        peer = from_rpc_error(error)
        if peer.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            logger.warning("peer_unavailable", reason=peer.reason, message=peer.message)
            return SelmError("PEER_UNAVAILABLE", "a service needed for this call does not answer")
    logger.error("rpc_failed", exc_info=error)
    return SelmError("INTERNAL", "internal error; quote the request id to the operator")


def _only_leaf(group: ExceptionGroup[Exception]) -> Exception | None:
    # A task group wraps even a single error of a handler's tasks.
    if len(group.exceptions) != 1:
        return None
    leaf = group.exceptions[0]
    return _only_leaf(leaf) if isinstance(leaf, ExceptionGroup) else leaf


async def _abort(call: Call, error: SelmError) -> NoReturn:
    call.code, call.reason = error.code, error.reason
    status = rpc_status.to_status(to_status(error, call.correlation_id))
    trailing = (*(call.context.trailing_metadata() or ()), *status.trailing_metadata)
    await call.context.abort(status.code, status.details, trailing)
    raise AssertionError("abort always raises")


@asynccontextmanager
async def auth(call: Call) -> AsyncIterator[None]:
    """Binds who calls, for current_principal()."""
    principal = authenticate(call.metadata)
    set_principal(principal)
    call.tenant = principal.tenant
    structlog.contextvars.bind_contextvars(tenant=principal.tenant)
    yield


def deadline(default_s: float) -> Callable[[Call], AbstractAsyncContextManager[None]]:
    """Makes the time that is left known; unary calls without a deadline get the server's."""

    @asynccontextmanager
    async def layer(call: Call) -> AsyncIterator[None]:
        remaining = call.context.time_remaining()
        if remaining is not None:
            deadlines.set_deadline(remaining)
            yield
        elif call.is_stream:
            yield
        else:
            async with deadlines.limit(default_s):
                yield

    return layer


class Limits:
    """Counts running calls and refuses one too many at once, so that memory stays bounded."""

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self.num_in_flight = 0

    @asynccontextmanager
    async def layer(self, call: Call) -> AsyncIterator[None]:
        if self.num_in_flight >= self._max_in_flight:
            limit = str(self._max_in_flight)
            raise SelmError(
                "QUEUE_FULL",
                f"{limit} calls are running already",
                metadata={"waiting": str(self.num_in_flight), "limit": limit},
            )
        self.num_in_flight += 1
        try:
            yield
        finally:
            self.num_in_flight -= 1


class Drain:
    """Knows the running calls, to end those that never would and to wait for the others."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[Any], Call] = {}
        self._ended: set[asyncio.Task[Any]] = set()
        self._is_ending = False

    @asynccontextmanager
    async def layer(self, call: Call) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None
        if self._is_ending and _is_endless(call):
            raise _draining()
        self._running[task] = call
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise _draining() from None
        finally:
            del self._running[task]
            self._ended.discard(task)

    def end_watches(self) -> None:
        """Answers every watcher DRAINING, late ones too; it resumes elsewhere."""
        self._is_ending = True
        for task, call in tuple(self._running.items()):
            if _is_endless(call):
                self._ended.add(task)
                task.cancel()

    async def wait_for_handlers(self) -> None:
        """Until cancelled handlers have let go: gRPC's stop waits for calls, not for handlers."""
        if self._running:
            await asyncio.wait(self._running, timeout=HANDLER_EXIT_S)


def _draining() -> SelmError:
    return SelmError("DRAINING", "this server is stopping; another will answer")


def _is_endless(call: Call) -> bool:
    name = call.method.rpartition("/")[2]
    return call.is_stream and (name.startswith("Watch") or name == "ServerReflectionInfo")
