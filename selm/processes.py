"""Operating-system details of child processes and ports, for the development stack alone.

Run as a script this file replaces itself by a command that the kernel kills with its parent. It is
a launcher and no preexec_fn, because Python must not run between fork and exec while threads do.
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def dying_with_parent(command: Sequence[str]) -> list[str]:
    """The command, wrapped: it dies when this process dies, even by kill -9 (Linux)."""
    # NOTE: "parent" is the thread that starts it: start it from one that lives long enough.
    # Isolated and without site, the launcher starts in milliseconds and imports nothing of us.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def is_port_free(port: int) -> bool:
    """Nobody listens on this TCP port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As a server would: a port in TIME_WAIT after a restart counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _launch(parent_pid: int, command: list[str]) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the kernel was told.
    if os.getppid() == parent_pid:
        os.execvp(command[0], command)  # noqa: S606 - replacing ourselves is the point


if __name__ == "__main__":
    _launch(int(sys.argv[1]), sys.argv[2:])
