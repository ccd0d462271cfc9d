"""Twenty thousand events while feedback_svc, memory_svc, nats-server and the network fail."""

import json
import os
from pathlib import Path

import pytest

from tests.feedback_chaos.plan import FULL, make_plan
from tests.feedback_chaos.run import run

# `make chaos-feedback SEEDS="7 8"`.
SEEDS = [int(seed) for seed in (os.environ.get("SELM_TEST_CHAOS_SEEDS") or "1 2 3").split()]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_acknowledged_event_is_stored_once_and_in_order(
    seed: int, tmp_path: Path
) -> None:
    """The broker's stream is compared with what eight clients were told; counts are printed."""
    report = await run(tmp_path, make_plan(seed, FULL), timeout_s=1500)
    print(json.dumps(report.as_json, indent=2))

    assert report.violations == []
    assert report.counts["acknowledged"] == FULL.num_events
    assert report.counts["kills"] == FULL.kills
    assert sum(report.counts["network_faults"].values()) == FULL.num_network_faults
