"""Client channels: which calls gRPC repeats by itself, request ids, the tenant, typed errors.

Does not know what any RPC means; the rules are read from the contract's descriptors.
"""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from selm.api.adapter.v1 import adapter_service_pb2
from selm.api.feedback.v1 import (
    dataset_service_pb2,
    feedback_service_pb2,
    learning_service_pb2,
    lesson_service_pb2,
    review_service_pb2,
)
from selm.api.inference.v1 import inference_service_pb2, replica_service_pb2
from selm.api.memory.v1 import memory_admin_service_pb2, memory_service_pb2
from selm.api.ops.v1 import erasure_service_pb2, server_service_pb2
from selm.api.trainer.v1 import evaluation_service_pb2, trainer_service_pb2
from selm.errors import from_rpc_error

CONTRACT = (
    adapter_service_pb2,
    dataset_service_pb2,
    erasure_service_pb2,
    evaluation_service_pb2,
    feedback_service_pb2,
    inference_service_pb2,
    learning_service_pb2,
    lesson_service_pb2,
    memory_admin_service_pb2,
    memory_service_pb2,
    replica_service_pb2,
    review_service_pb2,
    server_service_pb2,
    trainer_service_pb2,
)
# gRPC caps maxAttempts at 5. Outages longer than these attempts are the caller's: see client_retry,
# whose every repeat would be five if gRPC went on.
RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}

# At half of its tokens gRPC stops: after one call of five failures, until calls succeed again.
RETRY_THROTTLING = {"maxTokens": 10, "tokenRatio": 1}

Continuation = Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]]


def services() -> Iterator[ServiceDescriptor]:
    """Every service of the published contract."""
    for module in CONTRACT:
        yield from module.DESCRIPTOR.services_by_name.values()


def is_repeatable(method: MethodDescriptor) -> bool:
    """True if sending the same request twice counts once: a read, or a write with a request_id."""
    is_read = method.GetOptions().idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    return is_read or "request_id" in method.input_type.fields_by_name


def service_config() -> str:
    """The gRPC service config: UNAVAILABLE is retried where repeating is safe, nowhere else."""
    repeatable = [
        {"service": service.full_name, "method": method.name}
        for service in services()
        for method in service.methods
        if is_repeatable(method)
    ]
    method_config = [{"name": repeatable, "retryPolicy": RETRY_POLICY}]
    return json.dumps({"methodConfig": method_config, "retryThrottling": RETRY_THROTTLING})


def open_channel(
    address: str, metadata: Sequence[tuple[str, str]], default_timeout_s: float
) -> grpc.aio.Channel:
    """An insecure channel whose calls carry `metadata` and raise SelmError."""
    options = [
        ("grpc.service_config", service_config()),
        ("grpc.enable_retries", 1),
        # A restarted server is found again within a second; the default backs off to 2 minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    interceptors: list[grpc.aio.ClientInterceptor] = [
        UnaryInterceptor(metadata, default_timeout_s),
        StreamInterceptor(metadata),
        UploadInterceptor(metadata),
    ]
    return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)


def new_request_id() -> str:
    """An idempotency key as the contract wants it: UUID4."""
    return str(uuid.uuid4())


def with_request_id(request: Any) -> Any:
    """The request, with a fresh request_id if it has the field and the caller left it empty."""
    if not isinstance(request, Message) or "request_id" not in request.DESCRIPTOR.fields_by_name:
        return request
    if getattr(request, "request_id", ""):
        return request
    # A copy: the caller's message stays as it was, so sending it again is a new request.
    copy = type(request)()
    copy.CopyFrom(request)
    setattr(copy, "request_id", new_request_id())  # noqa: B010 - only known at run time
    return copy


def with_details(
    details: grpc.aio.ClientCallDetails,
    metadata: Sequence[tuple[str, str]],
    timeout_s: float | None,
) -> grpc.aio.ClientCallDetails:
    """The call's details plus the client's metadata and, where the caller set none, a deadline."""
    merged = grpc.aio.Metadata(*(details.metadata or ()), *metadata)
    return grpc.aio.ClientCallDetails(
        method=details.method,
        timeout=details.timeout if details.timeout is not None else timeout_s,
        metadata=merged,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


class UnaryInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Request id, metadata and deadline on the way out; SelmError on the way back."""

    def __init__(self, metadata: Sequence[tuple[str, str]], default_timeout_s: float) -> None:
        self._metadata = metadata
        self._default_timeout_s = default_timeout_s

    async def intercept_unary_unary(
        self,
        continuation: Continuation,
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        details = with_details(client_call_details, self._metadata, self._default_timeout_s)
        call = await continuation(details, with_request_id(request))
        try:
            await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return call


class StreamInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    """The same for server streams, which get no deadline: a watch may last for days."""

    def __init__(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._metadata = metadata

    async def intercept_unary_stream(
        self,
        continuation: Continuation,
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        details = with_details(client_call_details, self._metadata, None)
        return _typed(await continuation(details, request))


class UploadInterceptor(grpc.aio.StreamUnaryClientInterceptor):
    """The same for client streams, which may take as long as there is something to send."""

    def __init__(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._metadata = metadata

    async def intercept_stream_unary(
        self,
        continuation: Continuation,
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: Any,
    ) -> Any:
        details = with_details(client_call_details, self._metadata, None)
        call = await continuation(details, request_iterator)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return call


async def _typed(call: Any) -> AsyncIterator[Any]:
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    finally:
        # A reader that stops early must not leave the server streaming to nobody.
        call.cancel()
