"""One training in a child process: job file in, progress lines out, killed when unwanted.

A process of its own, so that a crash, an out-of-memory kill or a cancelled job takes nothing along.
The child ends by itself when its stdin closes, which happens even if this process is killed.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selm.errors import SelmError
from selm.log import get_logger

_log = get_logger("trainer_svc.training")

CHILD_MODULE = "trainer_svc.training.child"
# The result line carries every prompt and answer of the gate.
MAX_LINE_BYTES = 64 * 1024 * 1024
# A child that was told to end may finish its step; then it is killed.
GRACE_S = 1.0

OnProgress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class TrainingProcess:
    """How to start a child; tests may name another module."""

    module: str = CHILD_MODULE

    async def run(
        self, job_file: Path, on_progress: OnProgress, timeout_s: float
    ) -> Mapping[str, Any]:
        """The child's result. SelmError with its reason if it failed; cancelling kills it."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._run(job_file, on_progress)
        except TimeoutError:
            raise SelmError(
                "TIME_BUDGET_EXCEEDED",
                f"training took longer than {timeout_s:.0f} s",
                metadata={"max_duration": f"{timeout_s:.0f}s"},
            ) from None

    async def _run(self, job_file: Path, on_progress: OnProgress) -> Mapping[str, Any]:
        final: Mapping[str, Any] | None = None
        async with self._child(job_file) as child:
            assert child.stdout is not None
            async for line in child.stdout:
                message = _parse(line)
                if message is None:
                    continue
                if message.get("event") == "progress":
                    on_progress(message)
                else:
                    final = message
            code = await child.wait()
        return _outcome(final, code)

    @asynccontextmanager
    async def _child(self, job_file: Path) -> AsyncIterator[asyncio.subprocess.Process]:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.module,
            str(job_file),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
        _log.info("training_child_started", pid=child.pid)
        logs = asyncio.create_task(_forward_log(child))
        try:
            yield child
        finally:
            await asyncio.shield(_end(child))
            logs.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await logs
            _log.info("training_child_ended", pid=child.pid, code=child.returncode)


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(GRACE_S):
            await child.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _forward_log(child: asyncio.subprocess.Process) -> None:
    assert child.stderr is not None
    async for line in child.stderr:
        _log.info("training_child_says", pid=child.pid, line=line.decode(errors="replace").rstrip())


def _parse(line: bytes) -> Mapping[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if isinstance(message, dict) and "event" in message:
        return message
    # A library that prints must not end the job.
    _log.warning("training_child_noise", line=line.decode(errors="replace").rstrip()[:500])
    return None


def _outcome(final: Mapping[str, Any] | None, code: int) -> Mapping[str, Any]:
    if final is not None and final.get("event") == "result":
        return final
    if final is not None and final.get("event") == "failed":
        raise _failed(final)
    if code == -signal.SIGKILL:
        raise SelmError("TRAINING_OUT_OF_MEMORY", "the training process was killed by the system")
    raise SelmError("INTERNAL", f"the training process ended without a result, exit code {code}")


def _failed(final: Mapping[str, Any]) -> SelmError:
    message = str(final.get("message", "training failed"))
    try:
        return SelmError(str(final.get("reason")), message)
    except ValueError:
        return SelmError("INTERNAL", f"{final.get('reason')}: {message}")
