"""What `selm up` reads from the environment, and what it tells its children."""

import os
import socket
from pathlib import Path

import pytest

from selm.stack_options import StackError, UpOptions
from selm.stack_reload import runs_any_of
from selm.testing import free_port


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's own machine decides a test."""
    for name in [name for name in os.environ if name.startswith("SELM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_without_settings_the_documented_ports_are_used() -> None:
    """House ports, everywhere the same."""
    options = UpOptions.from_environment()

    assert options.nats_port == 4222
    assert options.milvus_port == 19530
    assert list(options.ports.values()) == [50051, 50052, 50053, 50054]
    assert list(options.metrics_ports.values()) == [9101, 9102, 9103, 9104]


def test_variables_and_env_file_move_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variables that the services read are the ones that the stack obeys."""
    (tmp_path / ".env").write_text("SELM_MEMORY_PORT=7002\nSELM_NATS_URL=nats://127.0.0.1:7000\n")
    monkeypatch.setenv("SELM_MEMORY_MILVUS_URI", "http://localhost:7001")
    monkeypatch.setenv("SELM_DATA_DIR", "elsewhere")
    options = UpOptions.from_environment(reload=True)

    assert (options.nats_port, options.milvus_port, options.ports["memory"]) == (7000, 7001, 7002)
    assert options.data_dir == Path("elsewhere")
    assert options.reload


def test_port_0_is_any_port_that_everybody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The services find each other although nobody named a port."""
    monkeypatch.setenv("SELM_INFERENCE_PORT", "0")
    options = UpOptions.from_environment()
    environment = options.child_environment()

    assert options.ports["inference"] > 0
    assert environment["SELM_INFERENCE_TARGET"] == f"127.0.0.1:{options.ports['inference']}"
    assert environment["SELM_INFERENCE_PORT"] == str(options.ports["inference"])


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SELM_NATS_URL", "nats://nats.example.org:4222"),
        ("SELM_NATS_URL", "nats://127.0.0.1"),
        ("SELM_NATS_URL", "nats://127.0.0.1:port"),
        ("SELM_MEMORY_MILVUS_URI", "memory.db"),
        ("SELM_TRAINER_PORT", "x"),
        ("SELM_TRAINER_PORT", "70000"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """One line says which variable is wrong."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(StackError, match=variable):
        UpOptions.from_environment()


def test_a_taken_port_is_named_with_the_setting_that_moves_it() -> None:
    """The user knows at once what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {name: free_port() for name in ("inference", "memory", "feedback", "trainer")}
        options = UpOptions(
            nats_port=free_port(),
            milvus_port=free_port(),
            ports={**ports, "feedback": port},
            metrics_ports={name: free_port() for name in ports},
        )
        with pytest.raises(StackError) as failure:
            options.check_ports()

    assert str(failure.value).startswith(f"port {port} is taken")
    assert "SELM_FEEDBACK_PORT=" in str(failure.value)


def test_children_get_absolute_paths(tmp_path: Path) -> None:
    """A child that changes its folder still finds the data."""
    environment = UpOptions(data_dir=Path(".selm")).child_environment()

    assert environment["SELM_DATA_DIR"] == str((tmp_path / ".selm").resolve())


def test_reload_concerns_the_services_that_run_the_code() -> None:
    """A change in the chassis concerns all, one in a service only that service."""
    inference = (Path("/p/inference_svc"), Path("/p/selm"))

    assert runs_any_of(inference, [Path("/p/selm/bus.py")])
    assert runs_any_of(inference, [Path("/p/inference_svc/engine/engine.py")])
    assert not runs_any_of(inference, [Path("/p/memory_svc/core.py")])
    assert not runs_any_of((), [Path("/p/selm/bus.py")])
