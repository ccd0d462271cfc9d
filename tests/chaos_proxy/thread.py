"""A chaos proxy on an event loop of its own thread, for callers without one."""

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from tests.chaos_proxy.proxy import ChaosProxy

T = TypeVar("T")

_ANSWER_S = 10.0


class ProxyThread:
    """`with ProxyThread(target) as proxy: proxy.call(ChaosProxy.blackhole)`."""

    def __init__(self, target: tuple[str, int], seed: int = 0) -> None:
        self._target = target
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._is_open = threading.Event()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-proxy", daemon=True)
        self._proxy: ChaosProxy | None = None

    def __enter__(self) -> "ProxyThread":
        self._thread.start()
        if not self._is_open.wait(_ANSWER_S):
            raise RuntimeError("the chaos proxy did not open")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(_ANSWER_S)

    @property
    def port(self) -> int:
        return self.call(lambda proxy: proxy.port)

    def call(self, what: Callable[[ChaosProxy], T]) -> T:
        """Do something with the proxy on its own loop; what it returned."""

        async def done() -> T:
            assert self._proxy is not None
            return what(self._proxy)

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(_ANSWER_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with ChaosProxy.open(self._target, self._seed) as self._proxy:
            self._is_open.set()
            await self._closing.wait()
