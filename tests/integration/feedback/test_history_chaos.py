"""Some hundred events through kills and a bad network: acknowledged is stored, once, in order.

The short sister of `make chaos-feedback`; memory_svc takes no part in it.
"""

from tests.feedback_chaos.plan import SHORT, make_plan
from tests.feedback_chaos.run import run


async def test_no_acknowledged_event_is_lost_doubled_or_reordered(tmp_path):
    """With kill -9 of feedback_svc and of the broker, repeats, retries and network faults."""
    report = await run(tmp_path, make_plan(1, SHORT), timeout_s=120)

    assert report.violations == []
    assert report.counts["acknowledged"] == SHORT.num_events
    assert report.counts["kills"] == SHORT.kills
    assert sum(report.counts["network_faults"].values()) == SHORT.num_network_faults
    # Without them nothing was tried.
    assert report.counts["retries"] > 0
    assert report.counts["duplicates_sent"] > 0
