"""feedback_svc behind the chaos proxy, memory_svc with its store, nats-server: all may be killed.

Knows how to start, kill and start again; nothing of what they do.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from selm.milvus_server import MilvusServer, MilvusServerOptions
from selm.nats_server import NatsServer, NatsServerOptions
from selm.processes import dying_with_parent
from selm.stack_children import is_serving
from selm.testing import free_port
from tests.histories.processes import MemoryProcess

_READY_TIMEOUT_S = 60.0


class FeedbackProcess:
    """One feedback_svc that knows its broker by `nats_port` alone."""

    def __init__(self, folder: Path, nats_port: int, failpoints: str = "", **settings: str) -> None:
        self.port = free_port()
        self.metrics_port = free_port()
        self._log = folder / f"feedback-{self.port}.log"
        self._environment = {
            "SELM_FAILPOINTS": failpoints,
            "SELM_NATS_URL": f"nats://127.0.0.1:{nats_port}",
            "SELM_LOG_FORMAT": "json",
            "SELM_FEEDBACK_PORT": str(self.port),
            "SELM_FEEDBACK_METRICS_PORT": str(self.metrics_port),
            "SELM_FEEDBACK_TRAINING_PAUSED": "true",
            **{f"SELM_FEEDBACK_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it; does not wait until it serves."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SELM_")}
        arguments = dying_with_parent([sys.executable, "-m", "feedback_svc"])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                arguments, stdout=log, stderr=log, env=inherited | self._environment
            )

    def wait_until_serving(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not is_serving(self.target):
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"feedback_svc ended: {self.log_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"feedback_svc does not serve: {self.log_text()[-2000:]}")
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, as a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        self._process = None

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)

    def log_text(self) -> str:
        """All that its processes have said so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class Processes:
    """All that a run may kill; memory_svc and its store only if they are wanted."""

    def __init__(self, folder: Path, proxy_port: int, nats: NatsServer, has_memory: bool) -> None:
        self.nats = nats
        # Impatient, so that many outcomes are unknown and what was published may come later.
        self.feedback = FeedbackProcess(folder, proxy_port, bus_timeout_s="0.5")
        self.milvus: MilvusServer | None = None
        self.memory: MemoryProcess | None = None
        if has_memory:
            self.milvus = MilvusServer(MilvusServerOptions(folder / "milvus", free_port()))
            self.memory = MemoryProcess(folder, self.milvus.uri, nats.url)

    def start(self) -> None:
        """The broker runs already."""
        if self.milvus and self.memory:
            self.milvus.start()
            self.memory.start()
        self.feedback.start()
        self.feedback.wait_until_serving()

    def kill(self, what: str) -> None:
        self._one(what).kill()

    def start_again(self, what: str) -> None:
        self._one(what).start()

    def stop(self) -> None:
        for one in (self.feedback, self.memory, self.milvus):
            if one is not None:
                one.kill()

    def _one(self, what: str) -> FeedbackProcess | MemoryProcess | NatsServer:
        one = {"feedback": self.feedback, "memory": self.memory, "nats": self.nats}[what]
        assert one is not None
        return one


def nats_in(folder: Path) -> NatsServer:
    return NatsServer(NatsServerOptions(folder / "nats", free_port(), free_port()))
