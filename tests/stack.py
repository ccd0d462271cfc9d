"""Starts the whole development stack as a user would: `selm up`, free ports, a folder of its own.

Knows the command line and the ready line; nothing of what runs inside.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

READY_LINE = "SELM is ready"
SERVICES = ("inference", "memory", "feedback", "trainer")


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stack:
    """A running stack: where its services listen, and its supervising process."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    ports: dict[str, int]
    lines: list[str] = field(default_factory=list)

    def target(self, service: str) -> str:
        """Address of one service's gRPC port."""
        return f"127.0.0.1:{self.ports[service]}"

    def run_cli(self, *arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Runs one `selm` command against this stack."""
        return subprocess.run(
            [sys.executable, "-m", "selm.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def kill(self, service: str) -> int:
        """Ends one service with SIGKILL, as a crash would; returns the pid that died."""
        process = self.service_process(service)
        process.send_signal(signal.SIGKILL)
        return int(process.pid)

    def service_process(self, service: str) -> psutil.Process:
        """The process that serves now, among the children of the supervisor."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        for child in children:
            try:
                if f"{service}_svc" in child.cmdline()[-1:] or (
                    child.cmdline()[1:3] == ["-m", f"{service}_svc"]
                ):
                    return child
            except psutil.Error:  # it ended while we looked
                continue
        raise LookupError(f"no process of {service}_svc runs now")

    def stop(self) -> int:
        """Ends the stack as Ctrl-C does; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def start_stack(data_dir: Path, *, ready_timeout_s: float = 240, **extra: str) -> Stack:
    """Starts `selm up` and waits for its ready line.

    Raises RuntimeError with the last output if it ends or is not ready in time.
    """
    names = ("nats", "milvus", *SERVICES, *(f"{name}_metrics" for name in SERVICES))
    ports = {name: free_port() for name in names}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SELM_")}
    environment |= {
        "SELM_DATA_DIR": str(data_dir),
        "SELM_NATS_URL": f"nats://127.0.0.1:{ports['nats']}",
        "SELM_MEMORY_MILVUS_URI": f"http://127.0.0.1:{ports['milvus']}",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    for name in SERVICES:
        environment[f"SELM_{name.upper()}_PORT"] = str(ports[name])
        environment[f"SELM_{name.upper()}_METRICS_PORT"] = str(ports[f"{name}_metrics"])
        environment[f"SELM_{name.upper()}_TARGET"] = f"127.0.0.1:{ports[name]}"
    environment |= extra
    process = subprocess.Popen(
        [sys.executable, "-m", "selm.cli", "up"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    stack = Stack(process, environment, ports)
    ready = threading.Event()
    threading.Thread(target=_read, args=(stack, ready), daemon=True).start()
    deadline = time.monotonic() + ready_timeout_s
    while not ready.wait(0.2):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError("the stack did not become ready:\n" + "\n".join(stack.lines[-40:]))
    return stack


def _read(stack: Stack, ready: threading.Event) -> None:
    """Keeps the output of the stack and tells when it is ready."""
    assert stack.process.stdout is not None
    for line in stack.process.stdout:
        stack.lines.append(re.sub(r"\x1b\[[0-9;]*m", "", line.rstrip()))
        if READY_LINE in line:
            ready.set()
