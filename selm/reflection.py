"""Server reflection v1 and v1alpha: one implementation, since the two speak the same messages."""

from collections.abc import AsyncIterator, Callable, Iterable
from functools import cache
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
_V1_FILE = "grpc/reflection/v1/reflection.proto"


def handlers(service_names: Callable[[], Iterable[str]]) -> tuple[grpc.GenericRpcHandler, ...]:
    """The generic handlers to add; names are asked for at each call, since services come late."""
    _describe_v1()

    async def answer(requests: Any, context: Any) -> AsyncIterator[Any]:
        servicer = aio.ReflectionServicer(service_names(), _Pool())
        async for response in servicer.ServerReflectionInfo(requests, context):
            if response.HasField("file_descriptor_response"):
                files = response.file_descriptor_response.file_descriptor_proto
                files[:] = map(_with_json_names, files)
            yield response

    method = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(
        grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
        for name in (V1, V1ALPHA)
    )


class _Pool:
    """The default pool, but one that also finds RPCs, as `grpcurl describe` asks for them."""

    def __getattr__(self, name: str) -> Any:
        return getattr(descriptor_pool.Default(), name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        pool = descriptor_pool.Default()
        try:
            return pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return pool.FindServiceByName(service).methods_by_name[method].containing_service.file


@cache
def _with_json_names(file: bytes) -> bytes:
    """The descriptor with the JSON name of each field, which Python leaves out.

    Without them grpcurl prints `consistency_token` where every other ProtoJSON writer says
    `consistencyToken`.
    """
    described = descriptor_pb2.FileDescriptorProto.FromString(file)
    messages = list(described.message_type)
    while messages:
        message = messages.pop()
        messages += message.nested_type
        for described_field in message.field:
            described_field.json_name = _json_name(described_field.name)
    return described.SerializeToString()


def _json_name(name: str) -> str:
    """As protoc makes it: every underscore goes, and what follows one is a capital."""
    first, *others = name.split("_")
    return first + "".join(other[:1].upper() + other[1:] for other in others)


def _describe_v1() -> None:
    """Registers the descriptor of v1, which the library lacks: clients describe all they list."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_V1_FILE)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        file.name, file.package = _V1_FILE, "grpc.reflection.v1"
        _rename_types(file)
        pool.Add(file)


def _rename_types(file: descriptor_pb2.FileDescriptorProto) -> None:
    old, new = ".grpc.reflection.v1alpha.", ".grpc.reflection.v1."
    for message in file.message_type:
        for message_field in message.field:
            # Setting it on a scalar field, even to nothing, would make the descriptor invalid.
            if message_field.type_name:
                message_field.type_name = message_field.type_name.replace(old, new)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
