"""`selm up` when it cannot: one clear line, exit code 1, nothing left running."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from selm.processes import is_port_free
from selm.settings import SERVICES
from selm.testing import free_port

_UP = "import sys; from selm import devstack; sys.exit(devstack.run())"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Free ports and a folder of its own."""
    values = {key: value for key, value in os.environ.items() if not key.startswith("SELM_")}
    values["SELM_DATA_DIR"] = str(tmp_path / "data")
    values["SELM_NATS_URL"] = f"nats://127.0.0.1:{free_port()}"
    values["SELM_MEMORY_MILVUS_URI"] = f"http://127.0.0.1:{free_port()}"
    for service in SERVICES:
        values[f"SELM_{service.upper()}_PORT"] = "0"
        values[f"SELM_{service.upper()}_METRICS_PORT"] = "0"
    return values


def _up(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _UP],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_taken_port_is_one_clear_line(environment: dict[str, str]) -> None:
    """Which port, and which setting moves it; nothing is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = _up({**environment, "SELM_INFERENCE_PORT": str(port)})

    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert f"port {port} is taken" in ended.stderr
    assert "SELM_INFERENCE_PORT=" in ended.stderr


def test_a_service_that_cannot_start_ends_the_stack_with_its_words(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A misspelled setting is shown, the servers are stopped, the log stays."""
    ended = _up({**environment, "SELM_NONSENSE": "1"})
    nats_port = int(environment["SELM_NATS_URL"].rpartition(":")[2])

    assert ended.returncode == 1
    assert "does not start; see" in ended.stderr
    assert "SELM_NONSENSE" in ended.stderr
    assert "nats is ready" in ended.stdout
    assert is_port_free(nats_port)
    assert "Server Exiting" in (tmp_path / "data" / "logs" / "nats.log").read_text()


def test_a_second_stack_on_the_same_folder_is_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Two brokers on one store would destroy it."""
    holder = (
        "import sys; from pathlib import Path; from selm import devstack\n"
        f"with devstack._only_one(Path({str(tmp_path / 'data')!r})):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        ended = _up(environment)
        process.kill()

    assert ended.returncode == 1
    assert f"in use by another `selm up`, pid {process.pid}" in ended.stderr
