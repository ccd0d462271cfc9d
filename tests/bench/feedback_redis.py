"""Redis and Celery beside ours: the server of Debian's package unpacked, the clients in a venv."""

import hashlib
import os
import shutil
import subprocess
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selm.processes import dying_with_parent
from selm.testing import free_port
from tests.bench.feedback_process import LineProcess
from tests.bench.memory_peers import CACHE, PeerError

REQUIREMENTS = Path(__file__).with_name("peers_feedback.txt")
_SCRIPT = Path(__file__).with_name("feedback_celery.py")
_INSTALL_TIMEOUT_S = 600
# redis-tools holds the binary, the others its libraries that a slim system lacks.
_DEBIAN = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1")
_READY_S = 30.0


class Redis:
    """The redis-server to run, and the libraries it needs."""

    def __init__(self, binary: Path, libraries: Path | None) -> None:
        self.binary = binary
        self.environment = dict(os.environ)
        if libraries is not None:
            self.environment["LD_LIBRARY_PATH"] = str(libraries)

    def version(self) -> str:
        done = subprocess.run(
            [self.binary, "--version"], env=self.environment, capture_output=True, check=False
        )
        if done.returncode:
            raise PeerError(done.stderr.decode(errors="replace").strip()[-300:])
        return " ".join(done.stdout.decode().split()[:3])


def find_redis(binary: str) -> Redis:
    """The one that was named; else Debian's, unpacked and not installed; else the one on PATH."""
    if binary:
        return Redis(Path(binary), None)
    root = CACHE / "redis-debian"
    if not (root / ".ready").exists():
        try:
            _unpack(root)
        except (OSError, subprocess.SubprocessError) as error:
            found = shutil.which("redis-server")
            if found is None:
                raise PeerError(f"no redis-server: {error}") from error
            return Redis(Path(found), None)
    libraries = next((root / "usr" / "lib").glob("*-linux-gnu"))
    return Redis(root / "usr" / "bin" / "redis-server", libraries)


def _unpack(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["apt-get", "download", *_DEBIAN],
        cwd=root,
        check=True,
        capture_output=True,
        timeout=_INSTALL_TIMEOUT_S,
    )
    for package in root.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, root], check=True, capture_output=True)
    (root / ".ready").touch()


def requirements() -> list[str]:
    """The pinned packages."""
    lines = REQUIREMENTS.read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def install() -> Path:
    """The folder of programs of a venv with Celery in it and nothing of ours."""
    wanted = requirements()
    folder = CACHE / f"classic-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:8]}"
    if not (folder / ".ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *wanted]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_TIMEOUT_S)
        except subprocess.CalledProcessError as error:
            raise PeerError(error.stderr.decode(errors="replace")[-500:]) from error
        except subprocess.TimeoutExpired as error:
            raise PeerError(f"not installed after {_INSTALL_TIMEOUT_S} s") from error
        (folder / ".ready").touch()
    return folder / "bin"


@contextmanager
def classic_stack(server: Redis, data_dir: Path) -> Iterator[LineProcess]:
    """redis-server that syncs every write, one worker, and the producer that is yielded."""
    programs = install()
    data_dir.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    environment = {
        **os.environ,
        "BENCH_REDIS_URL": url,
        "PYTHONPATH": str(_SCRIPT.parent),
        "C_FORCE_ROOT": "1",
    }
    options = {
        "--port": str(port),
        "--bind": "127.0.0.1",
        "--dir": str(data_dir),
        "--appendonly": "yes",
        "--appendfsync": "always",
        "--save": "",
    }
    flat = [part for pair in options.items() for part in pair]
    redis_command = [str(server.binary), *flat]
    worker_command = [str(programs / "celery"), "-A", "feedback_celery", "worker"]
    worker_command += ["--pool", "solo", "--loglevel", "WARNING", "--without-gossip"]
    processes: list[subprocess.Popen[bytes]] = []
    log_file = data_dir / "classic.log"
    try:
        with log_file.open("ab") as log:

            def start(command: list[str], env: dict[str, str]) -> None:
                arguments = dying_with_parent(command)
                processes.append(subprocess.Popen(arguments, env=env, stdout=log, stderr=log))

            start(redis_command, server.environment)
            start(worker_command, environment)
        command = [str(programs / "python"), str(_SCRIPT)]
        with LineProcess(command, environment, data_dir / "producer.log") as producer:
            _wait_ready(producer, log_file)
            yield producer
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait(timeout=10)


def _wait_ready(producer: LineProcess, log_file: Path) -> None:
    """Until the worker kept what a short turn enqueued."""
    deadline = time.monotonic() + _READY_S
    while "Ready to accept connections" not in log_file.read_text("utf-8", errors="replace"):
        if time.monotonic() > deadline:
            raise PeerError("redis-server does not start")
        time.sleep(0.05)
    producer.ask({"concurrency": 1, "seconds": 0.05, "num_bytes": 100})
