"""The six children of the development stack: what runs, after what, and when it is ready."""

import signal
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from selm import milvus_server, nats_server
from selm.milvus_server import MilvusServerOptions
from selm.nats_server import NatsServerOptions
from selm.settings import SERVICES
from selm.stack_options import UpOptions
from selm.supervisor import ChildSpec

_ROOT = Path(__file__).resolve().parents[1]


def child_specs(options: UpOptions) -> list[ChildSpec]:
    """In the order of their start; they stop in the reverse order."""
    environment = options.child_environment()
    data_dir = options.data_dir.resolve()
    nats = NatsServerOptions(data_dir / "nats", options.nats_port, options.nats_monitor_port)
    milvus = MilvusServerOptions(data_dir / "milvus", options.milvus_port)
    servers = [
        ChildSpec(
            "nats",
            nats_server.command(nats),
            environment,
            lambda: nats_server.is_ready(nats),
            # Forty lines of banner at each start help nobody; they are in its log file.
            is_shown=lambda line: "[INF]" not in line,
        ),
        ChildSpec(
            "milvus",
            milvus_server.command(milvus),
            environment,
            lambda: milvus_server.is_ready(milvus),
            # It closes its files on SIGINT only.
            stop_signal=signal.SIGINT,
            stop_timeout_s=15,
        ),
    ]
    return servers + [_service(name, options, environment) for name in SERVICES]


def _service(name: str, options: UpOptions, environment: dict[str, str]) -> ChildSpec:
    target = f"127.0.0.1:{options.ports[name]}"
    return ChildSpec(
        name,
        [sys.executable, "-m", f"{name}_svc"],
        environment,
        lambda: is_serving(target),
        after=("nats", "milvus") if name == "memory" else ("nats",),
        code=(_ROOT / f"{name}_svc", _ROOT / "selm"),
    )


def is_serving(target: str) -> bool:
    """The service's overall health is SERVING."""
    with grpc.insecure_channel(target) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service="")
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=2)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
