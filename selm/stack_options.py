"""What `selm up` runs on: ports, data folder, and the environment its children get.

The same variables configure the stack and the services, so nothing can point two ways.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from selm.processes import is_port_free
from selm.settings import ENV_FILE, SERVICES
from selm.testing import free_port

NATS_URL = "SELM_NATS_URL"
NATS_MONITOR_URL = "SELM_NATS_MONITOR_URL"
MILVUS_URI = "SELM_MEMORY_MILVUS_URI"
DATA_DIR = "SELM_DATA_DIR"

_DEFAULT_PORTS = dict(zip(SERVICES, range(50051, 50055), strict=True))
_DEFAULT_METRICS_PORTS = dict(zip(SERVICES, range(9101, 9105), strict=True))


class StackError(Exception):
    """The stack cannot run; the message is what the user reads."""


@dataclass(frozen=True)
class UpOptions:
    """Everything `selm up` can be told; `from_environment` reads it as the services would."""

    data_dir: Path = Path(".selm")
    nats_port: int = 4222
    nats_monitor_port: int = field(default_factory=free_port)
    milvus_port: int = 19530
    ports: Mapping[str, int] = field(default_factory=lambda: dict(_DEFAULT_PORTS))
    metrics_ports: Mapping[str, int] = field(default_factory=lambda: dict(_DEFAULT_METRICS_PORTS))
    # Restart the services whose code changed.
    reload: bool = False
    # Loading and converting a model for the first time is slow on a small machine.
    ready_timeout_s: float = 600.0

    @classmethod
    def from_environment(cls, *, reload: bool = False) -> "UpOptions":
        """From SELM_* variables and .env; StackError for one that cannot be used here."""
        values = {key: value for key, value in dotenv_values(ENV_FILE).items() if value}
        values |= os.environ
        return cls(
            data_dir=Path(values.get(DATA_DIR, ".selm")),
            nats_port=_loopback_port(NATS_URL, values, "nats://127.0.0.1:4222"),
            nats_monitor_port=_loopback_port(
                NATS_MONITOR_URL, values, f"http://127.0.0.1:{free_port()}"
            ),
            milvus_port=_loopback_port(MILVUS_URI, values, "http://127.0.0.1:19530"),
            ports=dict(_service_ports(values, "PORT", _DEFAULT_PORTS)),
            metrics_ports=dict(_service_ports(values, "METRICS_PORT", _DEFAULT_METRICS_PORTS)),
            reload=reload,
        )

    def child_environment(self) -> dict[str, str]:
        """The environment of every child: ours, with the answers of this object in it."""
        # So that `selm up` in another folder finds the packages it was started from.
        root = str(Path(__file__).resolve().parents[1])
        python_path = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            "SELM_LOG_FORMAT": "console",
            # Without it grpc itself writes a line on stderr for each peer that goes away.
            "GRPC_VERBOSITY": "ERROR",
            # Serving and training share the cores here: a thread that waits must sleep, not spin,
            # or both crawl (a training of 12 lessons beside other work: 6 minutes against 22).
            "OMP_WAIT_POLICY": "PASSIVE",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(python_path),
            "PYTHONUNBUFFERED": "1",
            NATS_URL: f"nats://127.0.0.1:{self.nats_port}",
            NATS_MONITOR_URL: f"http://127.0.0.1:{self.nats_monitor_port}",
            MILVUS_URI: f"http://127.0.0.1:{self.milvus_port}",
            DATA_DIR: str(self.data_dir.resolve()),
        }
        for service in SERVICES:
            prefix = f"SELM_{service.upper()}_"
            environment[f"{prefix}PORT"] = str(self.ports[service])
            environment[f"{prefix}METRICS_PORT"] = str(self.metrics_ports[service])
            environment[f"{prefix}TARGET"] = f"127.0.0.1:{self.ports[service]}"
        return environment

    def check_ports(self) -> None:
        """StackError naming the first port that is taken, and the setting that moves it."""
        for variable, example, port in self._ports_and_settings():
            if not is_port_free(port):
                other = example.format(port=free_port())
                raise StackError(
                    f"port {port} is taken by another process: set {variable}, e.g. "
                    f"{variable}={other}"
                )

    def _ports_and_settings(self) -> Iterator[tuple[str, str, int]]:
        yield NATS_URL, "nats://127.0.0.1:{port}", self.nats_port
        yield NATS_MONITOR_URL, "http://127.0.0.1:{port}", self.nats_monitor_port
        yield MILVUS_URI, "http://127.0.0.1:{port}", self.milvus_port
        for service in SERVICES:
            yield f"SELM_{service.upper()}_PORT", "{port}", self.ports[service]
            yield f"SELM_{service.upper()}_METRICS_PORT", "{port}", self.metrics_ports[service]


def _loopback_port(variable: str, values: Mapping[str, str | None], default: str) -> int:
    url = values.get(variable) or default
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise StackError(f"{variable}: {error}") from None
    if host not in ("127.0.0.1", "localhost", "::1") or not port:
        raise StackError(f"{variable}={url}: `selm up` runs its own server; name 127.0.0.1:port")
    return port


def _service_ports(
    values: Mapping[str, str | None], suffix: str, defaults: Mapping[str, int]
) -> Iterator[tuple[str, int]]:
    for service, default in defaults.items():
        variable = f"SELM_{service.upper()}_{suffix}"
        text = values.get(variable) or str(default)
        if not text.isdecimal() or int(text) > 65535:
            raise StackError(f"{variable}={text}: not a port")
        # 0 asks for any; the other services must know which, so it is chosen here.
        yield service, int(text) or free_port()
