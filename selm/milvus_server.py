"""One milvus-lite server on loopback, for `selm up` and for tests that need the real store."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from selm.processes import dying_with_parent

_READY_TIMEOUT_S = 60.0
_PROBE = "/milvus.proto.milvus.MilvusService/GetVersion"


@dataclass(frozen=True)
class MilvusServerOptions:
    """Where it listens and where it keeps its data; the folder belongs to one process alone."""

    data_dir: Path
    port: int

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def command(options: MilvusServerOptions) -> list[str]:
    """The command line that runs the server in the foreground."""
    options.data_dir.mkdir(parents=True, exist_ok=True)
    # NOTE: without --host it would listen on every interface, with no authentication at all.
    where = ["--host", "127.0.0.1", "--port", str(options.port)]
    data_dir = ["--data-dir", str(options.data_dir)]
    return [sys.executable, "-m", "milvus_lite", "server", *data_dir, *where]


def is_ready(options: MilvusServerOptions) -> bool:
    """It answers calls; which answer does not matter."""
    with grpc.insecure_channel(f"127.0.0.1:{options.port}") as channel:
        try:
            probe: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_PROBE)
            probe(b"", timeout=1)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
            return code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        return True


class MilvusServer:
    """A server that a test can kill and start again on the same data."""

    def __init__(self, options: MilvusServerOptions) -> None:
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return self.options.uri

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = dying_with_parent(command(self.options))
        with (self.options.data_dir / "milvus.log").open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not is_ready(self.options):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"milvus-lite did not start on port {self.options.port}")
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9: no clean-up, as a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
        self._process = None
