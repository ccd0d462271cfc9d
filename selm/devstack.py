"""`selm up`: nats-server, Milvus Lite and the four services on this machine, under one supervisor.

1 Check the ports and lock the data folder. 2 Start nats, then milvus and the services. 3 Wait until
each is ready. 4 Say how to talk to them. 5 On Ctrl-C stop the services, then milvus, nats last.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from selm.child_log import ChildLog
from selm.settings import SERVICES
from selm.stack_children import child_specs
from selm.stack_options import StackError, UpOptions
from selm.stack_reload import reload_on_change
from selm.supervisor import Child

READY_LINE = "SELM is ready"

# One that ends this often before it was ever ready will not get there by itself.
_MAX_START_FAILURES = 3


def run(options: UpOptions | None = None, *, reload: bool = False) -> int:
    """Run the stack until Ctrl-C or SIGTERM; returns the exit code of `selm up`."""
    console = Console()
    try:
        options = options or UpOptions.from_environment(reload=reload)
        with _only_one(options.data_dir):
            options.check_ports()
            asyncio.run(_Stack(options, console).run())
    except (StackError, FileNotFoundError) as error:
        Console(stderr=True).print(f"selm up: {error}", markup=False, soft_wrap=True)
        return 1
    return 0


class _Stack:
    """The children, from start to end."""

    def __init__(self, options: UpOptions, console: Console) -> None:
        self._options = options
        self._console = console
        logs = options.data_dir / "logs"
        self._children = [
            Child(spec, ChildLog(console, spec.name, logs, number))
            for number, spec in enumerate(child_specs(options))
        ]

    async def run(self) -> None:
        """Steps 2 to 5."""
        stop = asyncio.Event()
        self._handle_signals(stop)
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        ready = asyncio.create_task(self._wait_ready())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([ready, stopped], return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                self._say_ready()
                await self._until(stopped)
        finally:
            ready.cancel()
            await self._stop_in_order()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def _keep(self, child: Child) -> None:
        by_name = {other.spec.name: other for other in self._children}
        await child.run([by_name[name].ready.wait() for name in child.spec.after])

    async def _wait_ready(self) -> None:
        started = time.monotonic()
        waiting = {child.spec.name: child for child in self._children}
        with self._console.status("starting") as status:
            while waiting:
                spent_s = time.monotonic() - started
                names = ", ".join(waiting)
                hint = "" if spent_s < 15 else "; the first start converts the model"
                status.update(f"waiting for {names} ({spent_s:.0f} s{hint})")
                if spent_s > self._options.ready_timeout_s:
                    raise StackError(f"{names} not ready after {spent_s:.0f} s")
                for name, child in list(waiting.items()):
                    if child.ready.is_set():
                        child.log.say(f"{name} is ready after {spent_s:.0f} s")
                        del waiting[name]
                    elif child.num_failures >= _MAX_START_FAILURES:
                        raise StackError(_why_not(child))
                await asyncio.sleep(0.1)

    async def _until(self, stopped: "asyncio.Task[bool]") -> None:
        if not self._options.reload:
            await stopped
            return
        reloading = asyncio.create_task(reload_on_change(self._children))
        try:
            await asyncio.wait([stopped, reloading], return_when=asyncio.FIRST_COMPLETED)
            if reloading.done():
                reloading.result()
        finally:
            reloading.cancel()

    async def _stop_in_order(self) -> None:
        # Services first, all at once: each may still publish and store what it holds.
        self._console.print("selm      | stopping", highlight=False)
        services = [child for child in self._children if child.spec.name in SERVICES]
        await asyncio.gather(*(child.stop() for child in services))
        for child in reversed(self._children):
            await child.stop()
            child.log.close()

    def _handle_signals(self, stop: asyncio.Event) -> None:
        def on_signal() -> None:
            if stop.is_set():
                # A second Ctrl-C: the user does not want to wait.
                for child in self._children:
                    child.kill()
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)

    def _say_ready(self) -> None:
        for line in (*_first_calls(self._options), READY_LINE):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _why_not(child: Child) -> str:
    tail = "\n".join(f"  {line}" for line in child.log.last_lines)
    return f"{child.spec.name} does not start; see {child.log.path}. Its last lines:\n{tail}"


def _first_calls(options: UpOptions) -> Sequence[str]:
    """Lines to copy into another terminal."""
    grpcurl, selm = _command("grpcurl"), _command("selm")
    target = f"127.0.0.1:{options.ports['inference']}"
    message = '{"role": "ROLE_USER", "text": "What is the capital of France?"}'
    question = f'{{"input": {{"chat": {{"messages": [{message}]}}}}}}'
    return (
        "",
        "Try, in another terminal:",
        f"  {selm} chat",
        f"  {selm} demo",
        f"  {grpcurl} -plaintext {target} list",
        f"  {grpcurl} -plaintext -d '{question}' {target}"
        " selm.api.inference.v1.InferenceService/Generate",
        "",
    )


def _command(name: str) -> str:
    """How to call a program from any shell: by the path it was installed to, if it was."""
    installed = Path(sysconfig.get_path("scripts")) / name
    return str(installed) if installed.is_file() else shutil.which(name) or name


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Two stacks on one folder would both write the same streams: the second is refused."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            raise StackError(f"{data_dir} is in use by another `selm up`, pid {owner}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
