"""The demo while each of the four services is killed once; `make chaos` does more of this."""

import json
from pathlib import Path

import pytest

from tests.killing import Killer, is_teaching, is_training
from tests.stack import SERVICES, start_stack


@pytest.mark.timeout(900)
def test_demo_ends_right_although_every_service_dies_once(tmp_path: Path) -> None:
    """No acknowledged correction is lost, and all twelve facts are learned and verified."""
    stack = start_stack(tmp_path / "stack")
    report = tmp_path / "report.json"
    moments = [(is_teaching, ["memory", "feedback"]), (is_training, ["trainer", "inference"])]
    try:
        with Killer(stack, moments) as killer:
            demo = stack.run_cli("demo", "--seed", "3", "--json", str(report), timeout_s=800)
    finally:
        exit_code = stack.stop()
    result = json.loads(report.read_text())

    assert sorted(killer.kills) == sorted(SERVICES)
    assert demo.returncode == 0, demo.stdout[-3000:] + demo.stderr[-3000:]
    assert result["num_lessons_kept"] == 12
    assert result["num_right_memory_off"] >= 11
    assert exit_code == 0
