"""What surrounds every RPC: one list of layers, outermost first. Knows no service.

A layer is an async context manager around the whole call: it sees how the call ends, never its
messages. Handlers are `async def`, with `yield` for server streams.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from selm import layers
from selm.errors import FieldViolation, InvalidFields, SelmError
from selm.layers import Call, Drain, Limits

Layer = Callable[[Call], AbstractAsyncContextManager[None]]
Behavior = Callable[[Any, Any], Any]

_MAX_METHODS = 1000


def build_interceptors(
    service: str, *, limits: Limits, drain: Drain, default_deadline_s: float
) -> list[grpc.aio.ServerInterceptor]:
    """The layers of a server. Each reason says why the layer stands where it does."""
    around_calls: list[Layer] = [
        layers.context,  # first: everything below logs and answers with the correlation id
        layers.telemetry(service),  # sees the final code, of refused calls too
        layers.errors,  # turns whatever is raised below into a status
        layers.auth,  # before limits: who is unknown takes no place
        limits.layer,  # before any work
        drain.layer,
        layers.deadline(default_deadline_s),  # innermost: its clock is the handler's
    ]
    # Health and reflection must answer on a full server, so nothing counts or limits them.
    around_infrastructure: list[Layer] = [layers.errors, drain.layer]
    return [LayeredInterceptor(around_calls, around_infrastructure)]


@dataclass(frozen=True)
class Malformed:
    """Stands in the place of a request whose bytes are not the message they should be."""

    description: str = field(default="the bytes are not a valid message of this type")


class LayeredInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each method's handler in the layers, whatever its arity."""

    def __init__(
        self, around_calls: Sequence[Layer], around_infrastructure: Sequence[Layer]
    ) -> None:
        self._around_calls = tuple(around_calls)
        self._around_infrastructure = tuple(around_infrastructure)
        # By method: the handler of gRPC, and the same inside its layers.
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(details)
        if handler is None:
            return None
        # Handlers live as long as the server, so each is wrapped once and not at every call.
        known, wrapped = self._wrapped.get(details.method, (None, None))
        if known is not handler:
            method = details.method.lstrip("/")
            is_ours = not method.startswith("grpc.")
            around = self._around_calls if is_ours else self._around_infrastructure
            wrapped = _rebuilt(method, handler, around)
            # Callers may invent names without end.
            if len(self._wrapped) < _MAX_METHODS:
                self._wrapped[details.method] = (handler, wrapped)
        return wrapped


def _rebuilt(method: str, handler: Any, around: Sequence[Layer]) -> Any:
    kinds: dict[tuple[bool, bool], tuple[str, Callable[..., Any]]] = {
        (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
        (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
        (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
        (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
    }
    kind, make = kinds[handler.request_streaming, handler.response_streaming]
    behavior = _checked(method, getattr(handler, kind))
    body = _streamed(behavior) if handler.response_streaming else behavior
    is_stream = handler.request_streaming or handler.response_streaming
    deserializer = handler.request_deserializer
    if deserializer is not None and not handler.request_streaming:
        deserializer = _tolerant(deserializer)
    wrapped = _surrounded(method, body, around, is_stream=is_stream)
    return make(wrapped, deserializer, handler.response_serializer)


def _surrounded(
    method: str, body: Behavior, around: Sequence[Layer], *, is_stream: bool
) -> Behavior:
    async def innermost(call: Call, request: Any) -> Any:
        if isinstance(request, Malformed):
            raise InvalidFields([FieldViolation("request", request.description)])
        return await body(request, call.context)

    run: Behavior = innermost
    for layer in reversed(around):
        run = _inside(layer, run)

    async def handle(request: Any, context: Any) -> Any:
        metadata = {
            key: value
            for key, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        }
        return await run(Call(method, context, metadata, is_stream=is_stream), request)

    return handle


def _inside(layer: Layer, inner: Callable[[Call, Any], Awaitable[Any]]) -> Behavior:
    async def run(call: Call, request: Any) -> Any:
        async with layer(call):
            return await inner(call, request)

    return run


def _streamed(behavior: Behavior) -> Behavior:
    # Written with context.write, not yielded: a cancellation then arrives here, in this task, and
    # closes the handler's generator at once instead of whenever it is collected.
    async def run(request: Any, context: Any) -> None:
        responses: AsyncIterator[Any] = behavior(request, context)
        async with aclosing(responses):  # type: ignore[type-var]
            async for response in responses:
                await context.write(response)

    return run


def _checked(method: str, behavior: Behavior) -> Behavior:
    # Generated base classes refuse with plain functions that gRPC would run on a thread.
    if inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior):
        return behavior

    def refuse(request: Any, context: Any) -> Any:
        raise SelmError(
            "NOT_IMPLEMENTED",
            f"{method} is not implemented by this server",
            metadata={"method": method},
        )

    return refuse


def _tolerant(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    # Raised inside a deserializer, the fault would reach the caller without a reason.
    def deserialize(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError:
            return Malformed()

    return deserialize
