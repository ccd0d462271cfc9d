"""A real gRPC server of the chassis around handlers that a test writes itself."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from selm.api.ops.v1 import server_service_pb2 as messages
from selm.checks import Check
from selm.server import App, Servicer, serve
from selm.settings import ServiceSettings, SharedSettings
from selm.testing import free_port

PROBE = "selm.api.probe.v1.ProbeService"


@dataclass(frozen=True)
class Probe:
    """A running server, a channel to it, and the switch that stops it."""

    channel: grpc.aio.Channel
    target: str
    stop: asyncio.Event
    server: asyncio.Task[None]

    def unary(self, method: str, **options: Any) -> Any:
        call = self.channel.unary_unary(f"/{PROBE}/{method}", **_CODEC)
        return call(messages.GetServerInfoRequest(), **options)

    def stream(self, method: str, **options: Any) -> Any:
        call = self.channel.unary_stream(f"/{PROBE}/{method}", **_CODEC)
        return call(messages.GetServerInfoRequest(), **options)


_CODEC: dict[str, Any] = {
    "request_serializer": messages.GetServerInfoRequest.SerializeToString,
    "response_deserializer": messages.GetServerInfoResponse.FromString,
}
Serving = Callable[..., AbstractAsyncContextManager[Probe]]


def _add(handlers: Mapping[str, Any], server: Any) -> None:
    def method(handler: Any) -> Any:
        is_stream = inspect.isasyncgenfunction(handler)
        make = grpc.unary_stream_rpc_method_handler if is_stream else None
        return (make or grpc.unary_unary_rpc_method_handler)(
            handler,
            request_deserializer=messages.GetServerInfoRequest.FromString,
            response_serializer=messages.GetServerInfoResponse.SerializeToString,
        )

    methods = {name: method(handler) for name, handler in handlers.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PROBE, methods),))


@pytest.fixture
def serving() -> Serving:
    """Opens a server around handlers: `async with serving(Method=handler) as probe`."""

    @asynccontextmanager
    async def open_probe(
        *,
        checks: Mapping[str, Check] | None = None,
        critical: frozenset[str] = frozenset(),
        shared: Mapping[str, Any] | None = None,
        max_in_flight: int = 64,
        build: Any = None,
        **handlers: Any,
    ) -> AsyncIterator[Probe]:
        settings = ServiceSettings(
            port=free_port(),
            metrics_port=free_port(),
            max_in_flight=max_in_flight,
            shared=SharedSettings(**{"grace_s": 0.2, **(shared or {})}),
        )

        @asynccontextmanager
        async def app(_: ServiceSettings) -> AsyncIterator[App]:
            yield App([Servicer(PROBE, _add, handlers)], checks or {}, critical)

        ready, stop = asyncio.Event(), asyncio.Event()
        server = asyncio.create_task(
            serve("probe_svc", settings, build or app, ready=ready, stop=stop)
        )
        target = f"127.0.0.1:{settings.port}"
        try:
            if build is None:
                await _either(ready.wait(), server)
            async with grpc.aio.insecure_channel(target) as channel:
                yield Probe(channel, target, stop, server)
        finally:
            stop.set()
            await asyncio.wait_for(server, 30)

    return open_probe


async def _either(ready: Any, server: asyncio.Task[None]) -> None:
    waiting = asyncio.ensure_future(ready)
    await asyncio.wait({waiting, server}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if server.done():
        server.result()
