"""A nats-server with little room: by its own limit, or because its disk is full for real."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selm.nats_server import NatsServer, NatsServerOptions
from selm.testing import free_port

_MIB = 1024 * 1024
# More than any small disk here has.
UNLIMITED = 1024 * _MIB


class SmallNats(NatsServer):
    """Tells its clients that it is full when `max_file_store` bytes are stored."""

    def __init__(self, folder: Path, max_file_store: int) -> None:
        super().__init__(NatsServerOptions(folder, free_port(), free_port()))
        self._max_file_store = max_file_store

    def start(self) -> None:
        # The configuration is written anew at each start, with this line beside the others.
        options = self.options
        limit = f"always\n  max_file_store: {self._max_file_store}"
        self.options = NatsServerOptions(
            options.data_dir, options.port, options.monitor_port, sync_interval=limit
        )
        try:
            super().start()
        finally:
            self.options = options


class SmallDisk:
    """A folder that can hold so many bytes until `grow()`; a tmpfs, where one may be mounted."""

    def __init__(self, folder: Path, num_bytes: int) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True)
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(folder)]
        self._is_mounted = os.geteuid() == 0 and _succeeds(mounting)
        self._file_limit = None if self._is_mounted else num_bytes // 8

    def limit(self, pid: int) -> None:
        """Where nothing may be mounted: no file of this process may grow over an eighth of it."""
        if self._file_limit is not None:
            subprocess.run(["prlimit", f"--fsize={self._file_limit}", f"--pid={pid}"], check=True)

    def grow(self) -> None:
        if self._is_mounted:
            remounting = ["mount", "-o", f"remount,size={UNLIMITED}", str(self._folder)]
            subprocess.run(remounting, check=True)
        self._file_limit = None

    def close(self) -> None:
        if self._is_mounted:
            subprocess.run(["umount", "--lazy", str(self._folder)], check=True)


@contextmanager
def small_disk(folder: Path, num_bytes: int) -> Iterator[SmallDisk]:
    disk = SmallDisk(folder, num_bytes)
    try:
        yield disk
    finally:
        disk.close()


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
