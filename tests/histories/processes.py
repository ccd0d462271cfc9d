"""memory_svc, Milvus Lite and nats-server as processes of their own, each of which may be killed.

Knows how to start, kill and start again; nothing of what they do.
"""

import os
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from selm.milvus_server import MilvusServer, MilvusServerOptions
from selm.nats_server import NatsServer, NatsServerOptions
from selm.stack_children import is_serving
from selm.testing import free_port
from tests.histories.warm import start_memory

_READY_TIMEOUT_S = 120.0


class MemoryProcess:
    """One memory_svc on servers that are there."""

    def __init__(self, folder: Path, milvus_uri: str, nats_url: str) -> None:
        self.port = free_port()
        self._log = folder / "memory.log"
        self._environment = {
            "SELM_NATS_URL": nats_url,
            "SELM_DATA_DIR": str(folder / "data"),
            "SELM_LOG_FORMAT": "json",
            "SELM_MEMORY_MILVUS_URI": milvus_uri,
            "SELM_MEMORY_PORT": str(self.port),
            "SELM_MEMORY_METRICS_PORT": "0",
        }
        self._process: ForkServerProcess | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, **environment: str) -> None:
        """Starts it, with more settings if there are any, and waits until it serves."""
        variables = {**os.environ, **self._environment, **environment}
        self._process = start_memory(variables, self._log)
        self.wait_until_serving()

    def wait_until_serving(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not is_serving(self.target):
            if self._process is None or self._process.exitcode is not None:
                raise RuntimeError(f"memory_svc ended: {self._tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"memory_svc does not serve: {self._tail()}")
            time.sleep(0.1)

    def wait_until_dead(self) -> int | None:
        """Its exit code, once it has ended by itself, at a failpoint."""
        assert self._process is not None
        self._process.join(60)
        return self._process.exitcode

    def kill(self) -> None:
        """kill -9, as a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.join(10)
        self._process = None

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


class MemoryProcesses:
    """One memory_svc on a Milvus Lite and a nats-server of its own."""

    def __init__(self, folder: Path) -> None:
        self.milvus = MilvusServer(MilvusServerOptions(folder / "milvus", free_port()))
        self.nats = NatsServer(NatsServerOptions(folder / "nats", free_port(), free_port()))
        self.memory = MemoryProcess(folder, self.milvus.uri, self.nats.url)

    @property
    def target(self) -> str:
        return self.memory.target

    def start(self) -> None:
        self.nats.start()
        self.milvus.start()
        self.memory.start()

    def stop(self) -> None:
        self.memory.kill()
        self.milvus.kill()
        self.nats.stop()

    def kill_milvus_and_restart(self) -> None:
        """kill -9 of the store, and its return; memory_svc finds it again by itself."""
        self.milvus.kill()
        self.milvus.start()
