"""Forty random histories on real processes that are killed in between; see tests/histories."""

from pathlib import Path

import pytest

from tests.histories.run import run_histories

NUM_HISTORIES = 40
NUM_STEPS = 12


@pytest.mark.timeout(900)
def test_no_superseded_deleted_or_expired_value_is_ever_seen(tmp_path: Path) -> None:
    """After every step of every history the answers are those of the model."""
    kills = run_histories(tmp_path, NUM_HISTORIES, num_steps=NUM_STEPS)
    print(f"kills: {kills}")

    assert kills.get("memory", 0) >= 1
    assert kills.get("milvus", 0) >= 1
