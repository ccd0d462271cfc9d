"""Supervised children: real processes that end, hang, speak and leave others behind."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
from rich.console import Console

from selm.child_log import ChildLog
from selm.stack_reload import reload_on_change
from selm.supervisor import Child, ChildSpec
from selm.testing import eventually


def _child(tmp_path: Path, code: str, is_ready: Callable[[], bool] = lambda: True) -> Child:
    console = Console(file=io.StringIO(), width=200)
    spec = ChildSpec(
        "child",
        [sys.executable, "-u", "-c", code],
        {**os.environ, "MARK": str(tmp_path)},
        is_ready,
        stop_timeout_s=1.0,
    )
    return Child(spec, ChildLog(console, "child", tmp_path / "logs", 0))


@asynccontextmanager
async def running(child: Child) -> AsyncIterator[None]:
    """Keep the child for the time of the block."""
    keeper = asyncio.create_task(child.run([]))
    try:
        yield
    finally:
        await child.stop()
        keeper.cancel()


async def _logged(child: Child, text: str, times: int = 1) -> None:
    async def is_logged() -> bool:
        return child.log.path.read_text().count(text) >= times

    await eventually(is_logged)


async def test_output_goes_to_the_console_and_to_a_file(tmp_path: Path) -> None:
    """Both streams, line by line, with the child's name before each."""
    child = _child(tmp_path, "import sys,time; print('out'); print('err',file=sys.stderr)")
    async with running(child):
        await _logged(child, "out")
        await _logged(child, "err")

    assert child.log.path.name == "child.log"
    assert "out" in child.log.last_lines or "err" in child.log.last_lines


async def test_a_child_that_ends_is_started_again_and_the_log_says_so(tmp_path: Path) -> None:
    """A crash is visible and is not the end."""
    child = _child(tmp_path, "print('alive'); raise SystemExit(3)")
    async with running(child):
        await _logged(child, "alive", times=2)

    assert "child ended with code 3; starting again in 1 s" in child.log.path.read_text()
    assert child.num_failures >= 1


async def test_a_killed_child_comes_back(tmp_path: Path) -> None:
    """kill -9 from outside is a crash like any other."""
    child = _child(tmp_path, "import os,time; print('pid', os.getpid()); time.sleep(60)")
    async with running(child):
        await _logged(child, "pid ")
        pid = int(child.log.last_lines[-1].split()[1])
        os.kill(pid, signal.SIGKILL)
        await _logged(child, "pid ", times=2)

    assert "was killed by signal 9" in child.log.path.read_text()


async def test_a_child_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    """Ctrl-C always ends."""
    child = _child(
        tmp_path,
        "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf');"
        "time.sleep(60)",
    )
    async with running(child):
        await _logged(child, "deaf")

    assert "did not stop in time and was killed" in child.log.path.read_text()


async def test_a_stopped_child_stays_stopped(tmp_path: Path) -> None:
    """Stopping is no crash: no restart, no complaint."""
    child = _child(tmp_path, "import time; print('up'); time.sleep(60)")
    async with running(child):
        await _logged(child, "up")

    assert "starting again" not in child.log.path.read_text()


async def test_restart_is_immediate_and_no_failure(tmp_path: Path) -> None:
    """Reload does not wait for a back-off."""
    child = _child(tmp_path, "import time; print('up'); time.sleep(60)")
    async with running(child):
        await _logged(child, "up")
        await child.restart()
        await _logged(child, "up", times=2)

    assert child.num_failures == 0


async def test_ready_is_set_by_the_probe_and_cleared_by_the_end(tmp_path: Path) -> None:
    """What depends on a child waits for it to answer, not for its process."""
    answers = [False, False, True]
    child = _child(tmp_path, "import time; print('up'); time.sleep(60)", lambda: answers.pop(0))
    async with running(child):
        await asyncio.wait_for(child.ready.wait(), 20)
        assert answers == []
    await asyncio.sleep(0)

    async def is_cleared() -> bool:
        return not child.ready.is_set()

    await eventually(is_cleared)


async def test_changed_code_restarts_the_child_that_runs_it(tmp_path: Path) -> None:
    """`--reload`: save a file, and only what runs it starts again."""
    code = tmp_path / "code"
    code.mkdir()
    child = _child(tmp_path, "import time; print('up'); time.sleep(60)")
    child.spec = replace(child.spec, code=(code,))
    other = _child(tmp_path / "other", "import time; print('up'); time.sleep(60)")
    async with running(child), running(other):
        await _logged(child, "up")
        await _logged(other, "up")
        reloading = asyncio.create_task(reload_on_change([child, other]))

        async def is_restarted() -> bool:
            (code / "module.py").write_text(f"x = {uuid.uuid4().int}")
            await asyncio.sleep(0.5)
            return child.log.path.read_text().count("up\n") >= 2

        await eventually(is_restarted)
        reloading.cancel()

    assert "child restarts: module.py changed" in child.log.path.read_text()
    assert other.log.path.read_text().count("up\n") == 1


async def test_what_a_child_left_behind_ends_with_it(tmp_path: Path) -> None:
    """A training process does not survive its trainer."""
    code = (
        "import subprocess,sys; p=subprocess.Popen([sys.executable,'-c','import time;"
        "time.sleep(60)']); print('grandchild', p.pid); raise SystemExit(1)"
    )
    child = _child(tmp_path, code)
    async with running(child):
        await _logged(child, "grandchild ")
        pid = int(child.log.path.read_text().split("grandchild ")[1].split()[0])

        async def is_gone() -> bool:
            return not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"

        await eventually(is_gone)


def _first_number_then_kill(code: str) -> int:
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    number = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    return number


async def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    """kill -9 of `selm up` leaves no server behind that would hold the ports."""
    code = (
        "import subprocess,sys,time; from selm.processes import dying_with_parent;"
        "sleeper='import time; print(1,flush=True); time.sleep(60)';"
        "p=subprocess.Popen(dying_with_parent([sys.executable,'-c',sleeper]),"
        "start_new_session=True, stdout=subprocess.PIPE);"
        "p.stdout.readline(); print(p.pid, flush=True);"
        "time.sleep(60)"
    )
    pid = await asyncio.to_thread(_first_number_then_kill, code)

    async def is_gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"

    await eventually(is_gone)
