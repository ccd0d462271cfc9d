"""Health: what is said of names, to askers and to watchers."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from selm.health import LIVE, SERVER, Health

_S = health_pb2.HealthCheckResponse


@pytest.fixture
async def served():
    """A bare server with our Health, and a stub."""
    health, server = Health(), grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield health, health_pb2_grpc.HealthStub(channel)
    await server.stop(None)


def _ask(name: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=name)


async def test_a_new_server_is_alive_and_not_ready(served) -> None:
    """Nothing serves before it says so."""
    _, stub = served

    assert (await stub.Check(_ask(LIVE))).status == _S.SERVING
    assert (await stub.Check(_ask(SERVER))).status == _S.NOT_SERVING


async def test_an_unknown_name_is_not_found(served) -> None:
    """As the health protocol says."""
    _, stub = served
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(_ask("no.such.Service"))

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watchers_stay_informed_when_another_one_leaves(served) -> None:
    """Each watcher is independent of the others."""
    health, stub = served
    leaving, staying = stub.Watch(_ask("a.Service")), stub.Watch(_ask("a.Service"))
    assert (await leaving.read()).status == _S.SERVICE_UNKNOWN
    assert (await staying.read()).status == _S.SERVICE_UNKNOWN
    leaving.cancel()
    await asyncio.sleep(0)
    health.set(["a.Service"], True)

    assert (await staying.read()).status == _S.SERVING


async def test_a_drain_spares_liveness(served) -> None:
    """A draining process must not be killed before its calls have ended."""
    health, stub = served
    health.set([SERVER, "a.Service"], True)
    health.enter_drain()

    assert (await stub.Check(_ask("a.Service"))).status == _S.NOT_SERVING
    assert (await stub.Check(_ask(LIVE))).status == _S.SERVING


def test_saying_the_same_again_is_no_news() -> None:
    """Only changes are told and logged."""
    health = Health()

    assert [health.set([SERVER], True), health.set([SERVER], True)] == [True, False]
