"""One listening gRPC server with its metrics port: binding, readiness, drain. Knows no service."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc

from selm import __version__, checks, health, metrics, reflection
from selm.api.ops.v1 import server_service_pb2_grpc
from selm.app import App, StartError
from selm.interceptors import build_interceptors
from selm.layers import Drain, Limits
from selm.router import Router
from selm.settings import ServiceSettings

READINESS_INTERVAL_S = 1.0
logger = structlog.get_logger()


class Listener:
    """One gRPC server with its metrics port; its two blocks are its two phases."""

    def __init__(self, service_name: str, settings: ServiceSettings) -> None:
        self._service_name = service_name
        self._settings = settings
        self._router = Router()
        self._health = health.Health()
        self._drain = Drain()
        shared = settings.shared
        self._grpc = grpc.aio.server(
            handlers=[self._router],
            interceptors=build_interceptors(
                service_name,
                limits=Limits(settings.max_in_flight),
                drain=self._drain,
                default_deadline_s=shared.default_deadline_s,
            ),
            options=[
                # Otherwise a second process could bind the same port and take half of the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", shared.max_message_bytes),
                ("grpc.max_send_message_length", shared.max_message_bytes),
                ("grpc.max_concurrent_streams", 256),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
            ],
        )

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """The port is ours, the process is alive, and nothing is served yet."""
        settings, shared = self._settings, self._settings.shared
        with contextlib.ExitStack() as ports:
            port = _bind(self._grpc, settings)
            try:
                metrics_port = ports.enter_context(
                    metrics.serve_metrics(settings.metrics_port, settings.host)
                )
            except OSError as error:
                raise _cannot_listen(settings, settings.metrics_port, error) from None
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._router)
            if shared.reflection:
                names = self._router.service_names
                self._router.add_generic_rpc_handlers(reflection.handlers(lambda: names))
            await self._grpc.start()
            metrics.BUILD_INFO.labels(self._service_name, __version__, shared.commit).set(1)
            logger.info("starting", host=settings.host, port=port, metrics_port=metrics_port)
            try:
                yield
            finally:
                # Whatever `serving` left: a server that never became ready has nothing to wait for.
                await self._grpc.stop(None)
                logger.info("stopped")

    @asynccontextmanager
    async def serving(self, app: App) -> AsyncIterator[None]:
        """The app's services answer; on the way out they are drained."""
        info = checks.ServerInfo(self._service_name, self._settings.shared, app.checks)
        for servicer in app.servicers:
            servicer.add(servicer.implementation, self._router)
        add_server_service: Callable[..., None] = (
            server_service_pb2_grpc.add_ServerServiceServicer_to_server
        )
        add_server_service(info, self._router)
        self._router.is_complete = True
        await self._tell_readiness(app)
        tasks = [
            asyncio.create_task(self._follow_readiness(app)),
            asyncio.create_task(metrics.watch_event_loop()),
        ]
        logger.info("ready", services=[servicer.full_name for servicer in app.servicers])
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._drain_calls()

    async def _drain_calls(self) -> None:
        shared = self._settings.shared
        logger.info("draining", drain_delay_s=shared.drain_delay_s, grace_s=shared.grace_s)
        self._health.enter_drain()
        await asyncio.sleep(shared.drain_delay_s)
        self._drain.end_watches()
        await self._grpc.stop(shared.grace_s)
        await self._drain.wait_for_handlers()

    async def _follow_readiness(self, app: App) -> None:
        while app.critical:
            await asyncio.sleep(READINESS_INTERVAL_S)
            await self._tell_readiness(app)

    async def _tell_readiness(self, app: App) -> None:
        results = await checks.run_checks({name: app.checks[name] for name in app.critical})
        failing = {name: result.detail for name, result in results.items() if not result.passed}
        names = [health.SERVER, checks.FULL_NAME, *(s.full_name for s in app.servicers)]
        if self._health.set(names, is_serving=not failing):
            logger.info("readiness_changed", is_serving=not failing, failing=failing)


def _bind(server: grpc.aio.Server, settings: ServiceSettings) -> int:
    """Binds the port; a plain socket tries first, for its error says why it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host.strip("[]"), settings.port))
    except OSError as error:
        raise _cannot_listen(settings, settings.port, error) from None
    host = f"[{settings.host.strip('[]')}]" if family == socket.AF_INET6 else settings.host
    try:
        return server.add_insecure_port(f"{host}:{settings.port}")
    except RuntimeError:
        raise _cannot_listen(settings, settings.port, OSError(errno.EADDRINUSE, "")) from None


def _cannot_listen(settings: ServiceSettings, port: int, error: OSError) -> StartError:
    prefix = settings.model_config.get("env_prefix", "")
    if error.errno == errno.EADDRINUSE:
        name = "METRICS_PORT" if port == settings.metrics_port else "PORT"
        return StartError(
            f"port {port} on {settings.host} is taken by another process; "
            f"stop it, or set {prefix}{name}"
        )
    return StartError(f"cannot listen on {settings.host}:{port}: {error.strerror or error}")
