"""The life of a service process: start, refusals to start, readiness, drain."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from selm.api.error.v1 import error_reason_pb2
from selm.api.ops.v1 import server_service_pb2 as messages
from selm.api.ops.v1 import server_service_pb2_grpc
from selm.checks import CheckResult
from selm.errors import SelmError, from_rpc_error
from selm.server import App, Servicer
from selm.testing import free_port

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = """
from contextlib import asynccontextmanager
from selm.server import App, run
from selm.settings import ServiceSettings, config


class MemorySettings(ServiceSettings):
    model_config = config("SELM_MEMORY_")


@asynccontextmanager
async def build(settings):
    yield App([])
    print("closed", flush=True)


run("memory_svc", MemorySettings, build)
"""


def _process(**environment: object) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SELM_")}
    return subprocess.Popen(
        [sys.executable, "-c", SERVICE],
        env={**clean, "PYTHONPATH": str(Path.cwd()), **{k: str(v) for k, v in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _refused(**environment: object) -> str:
    process = _process(**environment)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert errors.count("\n") == 1, errors
    return errors.strip()


async def _status(probe, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(probe.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


async def _info(probe) -> messages.ServerInfo:
    stub = server_service_pb2_grpc.ServerServiceStub(probe.channel)
    return (await stub.GetServerInfo(messages.GetServerInfoRequest())).server_info


async def ok(request, context):
    return messages.GetServerInfoResponse()


def test_a_taken_port_is_one_line_and_code_1() -> None:
    """Two servers never share a port in silence, and the operator reads which port it was."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = _refused(SELM_MEMORY_PORT=port, SELM_MEMORY_METRICS_PORT=free_port())

    assert line == (
        f"memory_svc: port {port} on 127.0.0.1 is taken by another process; "
        "stop it, or set SELM_MEMORY_PORT"
    )


def test_a_taken_metrics_port_is_one_line_and_code_1() -> None:
    """The metrics port is refused as clearly as the other one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = _refused(SELM_MEMORY_PORT=free_port(), SELM_MEMORY_METRICS_PORT=port)

    assert line.endswith("stop it, or set SELM_MEMORY_METRICS_PORT")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SELM_MEMORY_PORT": "x"}, "invalid settings: SELM_MEMORY_PORT"),
        ({"SELM_MEMORY_PROT": "1"}, "did you mean SELM_MEMORY_PORT"),
        ({"SELM_MEMORY_HOST": "0.0.0.0"}, "authentication is off"),
    ],
)
def test_invalid_settings_are_one_line_and_code_1(environment, said: str) -> None:
    """What the operator can mend is told without a traceback."""

    assert said in _refused(**environment)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_closes_and_ends_with_code_0(number: int) -> None:
    """A stop is a normal end: what the service opened is closed."""
    process = _process()
    while '"ready"' not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (0, "")
    assert "closed" in output.splitlines()


async def test_a_server_is_ready_and_tells_what_it_depends_on(serving) -> None:
    """Health names the server and each service; GetServerInfo lists checks, failing ones first."""

    async def good() -> CheckResult:
        return CheckResult(True, "2.15.1")

    async def bad() -> CheckResult:
        raise SelmError("STORE_UNAVAILABLE", "connection refused")

    async def broken() -> CheckResult:
        raise ValueError("hunter2")

    checks = {"nats": good, "milvus": bad, "device": broken}
    async with serving(Ok=ok, checks=checks, critical=frozenset({"nats"})) as probe:
        names = ("", "selm.live", "selm.api.probe.v1.ProbeService", "selm.api.ops.v1.ServerService")
        assert [await _status(probe, name) for name in names] == [SERVING] * 4
        info = await _info(probe)

    assert info.service == "probe_svc"
    assert [(check.check, check.passed, check.detail) for check in info.checks] == [
        ("device", False, "the check itself failed; see the log"),
        ("milvus", False, "connection refused"),
        ("nats", True, "2.15.1"),
    ]
    assert info.checks[1].reason == error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE


async def test_a_failing_critical_check_makes_a_server_unready_but_alive(serving) -> None:
    """Readiness follows critical checks both ways; liveness does not."""
    passed = True

    async def nats() -> CheckResult:
        return CheckResult(passed, "")

    async with serving(Ok=ok, checks={"nats": nats}, critical=frozenset({"nats"})) as probe:
        stub = health_pb2_grpc.HealthStub(probe.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        seen = [(await watch.read()).status]
        passed = False
        seen.append((await watch.read()).status)
        live = await _status(probe, "selm.live")
        passed = True
        seen.append((await watch.read()).status)

        assert (seen, live) == ([SERVING, NOT_SERVING, SERVING], SERVING)


async def test_a_starting_server_is_alive_and_answers_starting(serving) -> None:
    """While the model loads, callers are told to come back, and nobody restarts the process."""

    @asynccontextmanager
    async def never(settings):
        await asyncio.Event().wait()
        yield App([])

    async with serving(build=never) as probe:
        live = health_pb2_grpc.HealthStub(probe.channel).Check(
            health_pb2.HealthCheckRequest(service="selm.live"), wait_for_ready=True, timeout=10
        )
        assert (await live).status == SERVING
        assert await _status(probe) == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await probe.unary("Ok")

        assert from_rpc_error(caught.value).reason == "STARTING"


async def test_a_drain_ends_watchers_and_lets_running_calls_finish(serving) -> None:
    """Endless streams hear DRAINING and go elsewhere; work gets its grace."""
    started, may_finish = asyncio.Event(), asyncio.Event()

    async def work(request, context):
        started.set()
        await may_finish.wait()
        return messages.GetServerInfoResponse()

    async def watch_things(request, context):
        yield messages.GetServerInfoResponse()
        await asyncio.Event().wait()

    handlers = {"Work": work, "WatchThings": watch_things}
    async with serving(**handlers, shared={"grace_s": 30}) as probe:
        watcher = probe.stream("WatchThings")
        await watcher.read()
        health = health_pb2_grpc.HealthStub(probe.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == SERVING
        running = asyncio.ensure_future(probe.unary("Work"))
        await started.wait()
        probe.stop.set()
        assert (await health.read()).status == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watcher.read()
        may_finish.set()

        assert from_rpc_error(caught.value).reason == "DRAINING"
        assert await running == messages.GetServerInfoResponse()


async def test_the_app_is_closed_after_the_last_call(serving) -> None:
    """A running call never finds the engine or the bus closed beneath it."""
    order, started = [], asyncio.Event()

    async def work(request, context):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            order.append("call ended")

    @asynccontextmanager
    async def build(settings):
        def add(implementation, server):
            method = grpc.unary_unary_rpc_method_handler(work)
            name = "selm.api.probe.v1.ProbeService"
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(name, {"Work": method}),)
            )

        yield App([Servicer("selm.api.probe.v1.ProbeService", add, None)])
        order.append("app closed")

    async with serving(build=build) as probe:
        while await _status_or_none(probe) != SERVING:
            continue
        running = probe.channel.unary_unary("/selm.api.probe.v1.ProbeService/Work")(b"")
        await started.wait()
        probe.stop.set()
        with pytest.raises(grpc.aio.AioRpcError):
            await running
        await probe.server

    assert order == ["call ended", "app closed"]


async def _status_or_none(probe) -> int | None:
    try:
        return await _status(probe)
    except grpc.aio.AioRpcError:
        return None
