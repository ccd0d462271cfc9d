"""The whole inference service in this process: real gRPC, real nats-server, tiny real model."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from inference_svc.app import build
from inference_svc.settings import InferenceSettings
from selm.server import serve
from selm.settings import SharedSettings
from selm.testing import free_port
from tests.integration.inference.support import Service

StartService = Callable[..., AbstractAsyncContextManager[Service]]
# Nothing listens there.
NO_PEER = "127.0.0.1:1"


@pytest.fixture
def start_service(tiny_model: Path, tmp_path: Path) -> StartService:
    """Starts inference_svc on a free port; ends it as a signal would."""

    @asynccontextmanager
    async def start(
        nats_url: str, memory_target: str = NO_PEER, instance: str = "replica-1", **fields: object
    ) -> AsyncIterator[Service]:
        shared = SharedSettings(
            nats_url=nats_url,
            data_dir=tmp_path / "data",
            artifacts_uri=f"file://{tmp_path / 'artifacts'}",
            instance=instance,
            memory_target=memory_target,
            grace_s=1,
        )
        settings = InferenceSettings(
            port=free_port(),
            metrics_port=0,
            base_model=str(tiny_model),
            num_threads=1,
            start_without_bus_s=1,
            shared=shared,
            **fields,
        )
        ready, stop = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(
            serve("inference_svc", settings, build, ready=ready, stop=stop)
        )
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            waiting.cancel()
            running.result()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.port}") as channel:
            yield Service(channel, shared, tmp_path / "artifacts")
        stop.set()
        await running

    return start
