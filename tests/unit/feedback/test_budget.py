"""How long an adapter has trained today, and when that is enough."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from feedback_svc.learning import JobNews, RequestState, TrainingPolicy
from feedback_svc.training.budget import held_by_budget, trained_today_s

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MIDNIGHT = NOON - timedelta(hours=12)


def job(start: datetime | None, end: datetime | None) -> JobNews:
    state = RequestState.SUCCEEDED if end else RequestState.RUNNING
    return JobNews("t", "r", "j", state, 1, "", "", None, NOON, "adapters/a", start, end)


def test_only_what_fell_into_this_day_counts():
    """A job over midnight counts from midnight, one that runs until now, a waiting one not."""
    over_midnight = job(MIDNIGHT - timedelta(hours=1), MIDNIGHT + timedelta(seconds=60))
    yesterday = job(MIDNIGHT - timedelta(hours=2), MIDNIGHT - timedelta(hours=1))
    runs = job(NOON - timedelta(seconds=30), None)
    assert trained_today_s([over_midnight, yesterday, runs, job(None, None)], NOON) == 90


def test_over_the_budget_is_said_in_words_and_until_when():
    """Without a budget nothing is held back; one of nothing holds everything."""
    jobs = [job(NOON - timedelta(seconds=100), NOON)]
    assert held_by_budget(TrainingPolicy(), jobs, NOON) == ""
    assert held_by_budget(TrainingPolicy(daily_budget_s=101), jobs, NOON) == ""
    why = held_by_budget(TrainingPolicy(daily_budget_s=100), jobs, NOON)
    assert "100 s is used up" in why
    assert "2030-01-02 00:00 UTC" in why
    assert held_by_budget(TrainingPolicy(daily_budget_s=0), [], NOON)
    assert (
        held_by_budget(TrainingPolicy(daily_budget_s=100), jobs, NOON + timedelta(hours=12)) == ""
    )


@given(st.lists(st.tuples(st.integers(-200_000, 40_000), st.integers(0, 100_000)), max_size=10))
def test_a_day_never_holds_more_than_its_jobs_and_no_future(spans):
    """Whatever a clock that runs ahead may say."""
    jobs = [
        job(NOON + timedelta(seconds=start), NOON + timedelta(seconds=start + length))
        for start, length in spans
    ]
    trained_s = trained_today_s(jobs, NOON)
    assert 0 <= trained_s <= sum(length for _, length in spans)
    assert trained_s <= len(jobs) * 12 * 3600
