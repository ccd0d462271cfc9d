"""grpc.health.v1: the whole server, each service, and `selm.live`, which only says the loop runs.

A failing dependency makes a server not ready, never not alive: restarting it would heal nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

FULL_NAME = "grpc.health.v1.Health"
SERVER = ""
LIVE = "selm.live"
_Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """What this server says of itself; written by the server alone."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {SERVER: False, LIVE: True}
        self._changed = asyncio.Event()

    def set(self, names: Iterable[str], is_serving: bool) -> bool:
        """Says this of these names and wakes every watcher; true if it is news."""
        said = self._serving | dict.fromkeys(names, is_serving)
        if said == self._serving:
            return False
        self._serving = said
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return True

    def enter_drain(self) -> None:
        """Nothing is served any more, but the process lives: it must not be killed in its drain."""
        self.set([name for name in self._serving if name != LIVE], is_serving=False)

    async def Check(self, request: Any, context: Any) -> Any:
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _Status(status=self._status(request.service))

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        last: object = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != last:
                yield _Status(status=status)
            last = status
            await changed.wait()

    def _status(self, name: str) -> Any:
        is_serving = self._serving.get(name)
        if is_serving is None:
            return _Status.SERVICE_UNKNOWN
        return _Status.SERVING if is_serving else _Status.NOT_SERVING
