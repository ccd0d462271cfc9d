"""Reflection: both versions, from a client that has no stubs of ours."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from grpc_reflection.v1alpha import reflection_pb2

from selm.api.ops.v1 import server_service_pb2 as messages


async def ok(request, context):
    return messages.GetServerInfoResponse()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_both_versions_list_and_describe_services(serving, version: str) -> None:
    """A client of either version finds every service and its files."""
    async with serving(Ok=ok) as probe:
        method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        call = probe.channel.stream_stream(
            method,
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = {s.name for s in (await call.read()).list_services_response.service}
        symbol = "selm.api.ops.v1.ServerService"
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
        described = (await call.read()).file_descriptor_response.file_descriptor_proto
        await call.done_writing()

    assert {symbol, "grpc.health.v1.Health", "selm.api.probe.v1.ProbeService"} <= listed
    assert {f"grpc.reflection.{v}.ServerReflection" for v in ("v1", "v1alpha")} <= listed
    assert len(described) >= 2


async def test_grpcurl_lists_describes_and_calls(serving) -> None:
    """The tool our users reach for first works with an address alone."""
    grpcurl = Path(sys.executable).parent / "grpcurl"

    def run(target: str, *arguments: str) -> str:
        command = [str(grpcurl), "-plaintext", target, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    service = "selm.api.ops.v1.ServerService"
    async with serving() as probe:
        described = await asyncio.to_thread(run, probe.target, "describe", service)
        rpc = await asyncio.to_thread(run, probe.target, "describe", f"{service}.GetServerInfo")
        answer = await asyncio.to_thread(run, probe.target, f"{service}/GetServerInfo")

    assert "rpc GetServerInfo" in described
    assert "rpc GetServerInfo" in rpc
    # ProtoJSON as every other writer spells it, not as Python's descriptors alone would make it.
    assert '"serverInfo"' in answer
    assert '"service": "probe_svc"' in answer


async def test_reflection_can_be_switched_off(serving) -> None:
    """A deployment may hide its descriptors."""
    async with serving(Ok=ok, shared={"reflection": False}) as probe:
        method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        call = probe.channel.stream_stream(method)(iter([b""]))

        assert (await call.code()).name == "UNIMPLEMENTED"
