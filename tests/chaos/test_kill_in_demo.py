"""kill -9 of each service in the middle of the demo: the loop still ends right."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.stack import SERVICES, Stack, start_stack

# Seconds after the demo's start: in the questions, in the corrections, in training, near the swap.
KILL_TIMES_S = (6.0, 20.0, 45.0)


@pytest.mark.parametrize("service", SERVICES)
def test_demo_ends_right_although_a_service_is_killed(service: str, tmp_path: Path) -> None:
    """No acknowledged correction is lost and all is learned, whichever service dies."""
    stack = start_stack(tmp_path / "stack")
    try:
        report = tmp_path / "report.json"
        killed = threading.Thread(target=_kill_later, args=(stack, service), daemon=True)
        killed.start()
        demo = subprocess.run(
            [sys.executable, "-m", "selm.cli", "demo", "--json", str(report)],
            env=stack.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        killed.join(60)
        result = json.loads(report.read_text())

        assert demo.returncode == 0, demo.stdout[-3000:] + demo.stderr[-3000:]
        assert result["num_facts"] == 12
        assert result["num_lessons_kept"] == 12
        assert result["num_right_memory_off"] >= 11
    finally:
        stack.stop()


def _kill_later(stack: Stack, service: str) -> None:
    """Kills the service at each of the times, if it runs then."""
    start = time.monotonic()
    for moment in KILL_TIMES_S:
        time.sleep(max(0.0, start + moment - time.monotonic()))
        try:
            stack.kill(service)
        except LookupError:  # it is being restarted from the last kill
            continue
