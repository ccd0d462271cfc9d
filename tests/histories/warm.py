"""Starts memory_svc in a second instead of eight: forked from a process that has imported it.

It is a process like any other: its own environment and log, and kill -9 takes it and nothing else.
What it imports is all that it shares; no model, no thread and no connection is there before it.
"""

import ctypes
import os
import runpy
import signal
import sys
from collections.abc import Mapping
from multiprocessing import get_context, set_start_method
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_IMPORTS = ["sentence_transformers", "memory_svc.app"]
_PR_SET_PDEATHSIG = 1


def start_memory(environment: Mapping[str, str], log: Path) -> ForkServerProcess:
    """As `python -m memory_svc` with this environment; what it says is added to the log."""
    # As memory_svc says before the import, which reads it.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    context = get_context("forkserver")
    context.set_forkserver_preload(_IMPORTS)
    process = context.Process(target=_run, args=(dict(environment), log), daemon=True)
    process.start()
    return process


def _run(environment: Mapping[str, str], log: Path) -> None:
    # The process it is forked from ends with the tests, however they end.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(descriptor, number)
    # As in a new process: else its locks have names, which a kill leaves behind.
    set_start_method("fork", force=True)
    sys.argv = ["memory_svc"]
    runpy.run_module("memory_svc", run_name="__main__", alter_sys=True)
