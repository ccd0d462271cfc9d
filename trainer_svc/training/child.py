"""`python -m trainer_svc.training.child job.json`: one training and its gate in its own process.

Talks through files and JSON lines on stdout alone. Ends when its stdin closes, because then its
starter is gone. Knows no bus, no registry and no other job.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from selm.errors import SelmError

# Serving shares the machine; a training may take longer, an answer may not.
NICENESS = 10
# Threads that wait for each other sleep instead of spinning: on shared cores a spinning thread
# takes the very time that the other one needs.
WAIT_SETTINGS = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
PARENT_GONE = 3


def main(arguments: list[str]) -> int:
    """Runs the job of the file named on the command line; 0 with a verdict, 1 if it failed."""
    results = _take_stdout()
    threading.Thread(target=_end_with_parent, daemon=True, name="parent-watch").start()
    os.nice(NICENESS)
    os.environ.update(WAIT_SETTINGS)  # read once, when torch is imported
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    try:
        job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        # Imported here: a job file that cannot be read must not first cost the seconds of torch.
        from trainer_svc.training.job import run_job

        result = run_job(job, lambda line: _write(results, line))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        _write(results, {"event": "failed"} | failure_of(error))
        return 1
    _write(results, {"event": "result"} | dict(result))
    return 0


def failure_of(error: BaseException) -> dict[str, str]:
    """The published reason and a line for people."""
    message = " ".join(str(error).split())[:400] or type(error).__name__
    if isinstance(error, SelmError):
        return {"reason": error.reason, "message": error.message}
    if isinstance(error, FloatingPointError):
        return {"reason": "TRAINING_NOT_FINITE", "message": message}
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return {"reason": "TRAINING_OUT_OF_MEMORY", "message": message}
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return {"reason": "DISK_FULL", "message": message}
    if type(error).__name__ == "AdapterFilesError":
        return {"reason": "ADAPTER_INCOMPATIBLE", "message": message}
    return {"reason": "INTERNAL", "message": f"{type(error).__name__}: {message}"}


def _take_stdout() -> IO[str]:
    """The real stdout for our lines alone; whatever libraries print goes to stderr."""
    ours = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return ours


def _write(results: IO[str], line: Mapping[str, Any]) -> None:
    results.write(json.dumps(line) + "\n")
    results.flush()


def _end_with_parent() -> None:
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 1024):
            pass
    # NOTE: not sys.exit: this is not the main thread, and torch may be in a long call.
    os._exit(PARENT_GONE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
