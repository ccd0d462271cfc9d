"""How much an adapter has trained today, by what its jobs say of start and end. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from feedback_svc.learning import JobNews, TrainingPolicy


def held_by_budget(policy: TrainingPolicy, jobs: Iterable[JobNews], now: datetime) -> str:
    """Why an automatic request waits for tomorrow, in words; empty if it may run."""
    if policy.daily_budget_s is None:
        return ""
    used_s = trained_today_s(jobs, now)
    if used_s < policy.daily_budget_s:
        return ""
    tomorrow = _midnight(now) + timedelta(days=1)
    return (
        f"the daily budget of {policy.daily_budget_s:.0f} s is used up ({used_s:.0f} s): "
        f"waits until {tomorrow:%Y-%m-%d %H:%M} UTC or for a manual request"
    )


def trained_today_s(jobs: Iterable[JobNews], now: datetime) -> float:
    """Seconds of this UTC day in which a job of these ran; one that runs counts until now."""
    start = _midnight(now)
    spans = ((job.start_time, job.end_time or now) for job in jobs if job.start_time)
    return sum(
        max(0.0, (min(end, now) - max(begin, start)).total_seconds()) for begin, end in spans
    )


def _midnight(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
