"""What the tests of single faults share: a feedback_svc behind a proxy, and patient callers."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import psutil

from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated
from selm.errors import SelmError
from selm.nats_server import NatsServer
from selm.testing import eventually
from tests.chaos_proxy.proxy import ChaosProxy
from tests.feedback_chaos.processes import FeedbackProcess

T = TypeVar("T")

_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@asynccontextmanager
async def feedback_process(
    folder: Path, nats_port: int, *, failpoints: str = "", is_awaited: bool = True, **settings: str
) -> AsyncIterator[FeedbackProcess]:
    """feedback_svc as a process of its own; it serves unless that is not awaited."""
    service = FeedbackProcess(folder, nats_port, failpoints, **settings)
    await asyncio.to_thread(service.start)
    try:
        if is_awaited:
            await asyncio.to_thread(service.wait_until_serving)
        yield service
    finally:
        await asyncio.to_thread(service.kill)


@asynccontextmanager
async def feedback_behind_proxy(
    folder: Path, nats: NatsServer, **settings: str
) -> AsyncIterator[tuple[FeedbackProcess, ChaosProxy]]:
    """Between it and its broker is a network that may fail."""
    async with (
        ChaosProxy.open(("127.0.0.1", nats.options.port)) as proxy,
        feedback_process(folder, proxy.port, **settings) as service,
    ):
        yield service, proxy


async def until_ok(call: Callable[[], Awaitable[T]], timeout_s: float = 30.0) -> T:
    """Repeat a call whose outcome is unknown until it succeeds; anything else is raised."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in _AGAIN or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


async def timed(waiting: Awaitable[T]) -> tuple[T, float]:
    """What it gave, and after how many seconds."""
    began = time.monotonic()
    return await waiting, time.monotonic() - began


async def cpu_share(pid: int, seconds: float) -> float:
    """Share of one core that a process uses over so many seconds."""
    process = psutil.Process(pid)
    before, began = process.cpu_times(), time.monotonic()
    await asyncio.sleep(seconds)
    after, took = process.cpu_times(), time.monotonic() - began
    return math.fsum((after.user - before.user, after.system - before.system)) / took


def resident_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


async def names_stored(peers: Any) -> list[str]:
    """Names of the events that the broker holds, in order; asked until it answers."""

    async def look() -> list[FeedbackEventCreated] | None:
        await peers.bus.wait_connected()
        try:
            return [*await peers.recorded(), FeedbackEventCreated()]
        except SelmError as error:
            # A broker that was killed a moment ago: the connection has yet to notice.
            if error.reason != "BUS_UNAVAILABLE":
                raise
            return None

    *messages, _ = await eventually(look)
    return [message.feedback_event.name for message in messages if not message.decision_count]
