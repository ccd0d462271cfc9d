"""One supervised child process: started, watched, restarted with back-off, stopped with a signal.

Knows nothing of what the child does; it is told how to see that it is ready.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from selm.child_log import ChildLog
from selm.processes import dying_with_parent

# A child that lived this long has recovered: its next end starts the back-off afresh.
_HEALTHY_S = 30.0
_MAX_BACK_OFF_S = 30.0
# What a child left behind may still hold its output open; we read no longer than this.
_LAST_WORDS_S = 1.0
_MAX_LINE_BYTES = 4 * 1024 * 1024
_PROBE_INTERVAL_S = 0.2


@dataclass(frozen=True)
class ChildSpec:
    """What to run. `after` names the children that must be ready before this one starts."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    after: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 45.0
    # Which lines of its output the terminal shows; the file gets all of them.
    is_shown: Callable[[str], bool] = lambda line: True
    # Folders whose code the child runs, for `--reload`; none for servers that are not ours.
    code: tuple[Path, ...] = field(default=())


class Child:
    """One child and its restarts; `run` lasts as long as the stack."""

    def __init__(self, spec: ChildSpec, log: ChildLog) -> None:
        self.spec = spec
        self.log = log
        self.ready = asyncio.Event()
        self.num_failures = 0
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopping = False
        self._is_restarting = False

    async def run(self, dependencies: Sequence[Awaitable[object]]) -> None:
        """Wait for what must be there first, then keep the child alive until `stop`."""
        await asyncio.gather(*dependencies)
        while not self._is_stopping:
            started = time.monotonic()
            code = await self._run_once()
            if self._is_stopping:
                return
            if self._is_restarting:
                self._is_restarting = False
                continue
            if time.monotonic() - started > _HEALTHY_S:
                self.num_failures = 0
            self.num_failures += 1
            wait_s = min(_MAX_BACK_OFF_S, 0.5 * 2**self.num_failures)
            self.log.say(f"{self.spec.name} {_how_it_ended(code)}; starting again in {wait_s:g} s")
            await asyncio.sleep(wait_s)

    async def restart(self) -> None:
        """End it in good order; `run` starts it again at once."""
        if self._is_running:
            self._is_restarting = True
            await self._end()

    async def stop(self) -> None:
        """End it for good: its signal, its time, then kill."""
        self._is_stopping = True
        await self._end()

    def kill(self) -> None:
        """End it now, with everything it started."""
        self._is_stopping = True
        self._signal_group(signal.SIGKILL)

    async def _run_once(self) -> int:
        # A pipe of our own: asyncio's would make wait() hang on a grandchild that holds it open.
        read_end, write_end = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *dying_with_parent(self.spec.command),
                env=dict(self.spec.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                # Its own group: Ctrl-C reaches us alone, and we stop the children in order.
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        output = asyncio.create_task(self._copy_output(read_end))
        probe = asyncio.create_task(self._watch_ready())
        try:
            return await self._process.wait()
        finally:
            probe.cancel()
            self.ready.clear()
            self._signal_group(signal.SIGKILL)
            await asyncio.wait([output], timeout=_LAST_WORDS_S)
            output.cancel()

    async def _copy_output(self, read_end: int) -> None:
        reader = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
        pipe = os.fdopen(read_end, "rb")
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while line := await _read_line(reader):
                self.log.line(line, is_shown=self.spec.is_shown(line))
        finally:
            transport.close()

    async def _watch_ready(self) -> None:
        while not self.ready.is_set():
            await asyncio.sleep(_PROBE_INTERVAL_S)
            if await asyncio.to_thread(self.spec.is_ready):
                self.ready.set()

    async def _end(self) -> None:
        process = self._process
        if process is None or not self._is_running:
            return
        with suppress(ProcessLookupError):
            process.send_signal(self.spec.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), self.spec.stop_timeout_s)
        except TimeoutError:
            self.log.say(f"{self.spec.name} did not stop in time and was killed")
            self._signal_group(signal.SIGKILL)
            await process.wait()

    @property
    def _is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


async def _read_line(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readline()).decode(errors="replace")
    except ValueError:
        return f"(a line of more than {_MAX_LINE_BYTES} bytes was left out)\n"


def _how_it_ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
