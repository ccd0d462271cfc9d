"""kill -9 of one service at three moments of the demo: the loop still ends right."""

import json
from pathlib import Path

import pytest

from tests.killing import Killer, is_judging, is_teaching, is_training
from tests.stack import SERVICES, start_stack


@pytest.mark.parametrize("service", SERVICES)
def test_demo_ends_right_although_a_service_is_killed_thrice(service: str, tmp_path: Path) -> None:
    """No acknowledged correction is lost and all is learned, whichever service dies."""
    stack = start_stack(tmp_path / "stack")
    report = tmp_path / "report.json"
    moments = [(moment, [service]) for moment in (is_teaching, is_training, is_judging)]
    try:
        with Killer(stack, moments) as killer:
            demo = stack.run_cli("demo", "--json", str(report), timeout_s=900)
    finally:
        stack.stop()
    result = json.loads(report.read_text())

    assert killer.kills == [service] * 3
    assert demo.returncode == 0, demo.stdout[-3000:] + demo.stderr[-3000:]
    assert result["num_lessons_kept"] == 12
    assert result["num_right_memory_off"] >= 11
