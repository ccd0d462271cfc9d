"""When a schedule is due: once per minute it names, and once for all that were missed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_svc.schedule import due_minute, fault_of

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
SCHEDULES = ["* * * * *", "*/7 * * * *", "0 3 * * *", "30 4 1,15 * 1-5", "0 0 29 2 *"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_cron_reads_is_accepted(schedule):
    """Lists, steps and ranges."""
    assert fault_of(schedule) == ""


@pytest.mark.parametrize(
    "schedule",
    ["@daily", "* * * *", "* * * * * *", "61 * * * *", "a b c d e", "0 0 30 2 *", "* * * * 9"],
)
def test_what_no_clock_can_follow_is_refused_in_words(schedule):
    """Also what never comes."""
    assert fault_of(schedule)


def test_a_minute_is_due_once_it_has_come():
    """Not a second before, and behind it the next one counts."""
    before = NOON - timedelta(seconds=1)
    assert due_minute("0 12 * * *", before, before) is None
    assert due_minute("0 12 * * *", before, NOON) == NOON
    assert due_minute("0 12 * * *", NOON, NOON + timedelta(hours=23)) is None


@given(
    st.sampled_from(SCHEDULES[:4]),
    st.lists(st.integers(1, 5000), min_size=1, max_size=30),
)
def test_each_look_heeds_whatever_came_since_the_last_and_nothing_twice(schedule, gaps):
    """Looks at any times: one is due exactly if a minute of the schedule came since the last."""
    heeded = now = NOON
    minutes = _minutes_of(schedule, NOON, NOON + timedelta(seconds=sum(gaps)))
    for gap in gaps:
        now += timedelta(seconds=gap)
        came = [minute for minute in minutes if heeded < minute <= now]
        due = due_minute(schedule, heeded, now)
        assert due == (came[0] if came else None)
        if due is not None:
            heeded = now


def _minutes_of(schedule: str, start: datetime, end: datetime) -> list[datetime]:
    """By asking for each minute alone whether it is due."""
    minute, found = start + timedelta(minutes=1), []
    while minute <= end:
        if due_minute(schedule, minute - timedelta(seconds=1), minute) == minute:
            found.append(minute)
        minute += timedelta(minutes=1)
    return found


def test_no_schedule_is_never_due():
    """Empty is off."""
    assert due_minute("", NOON, NOON + timedelta(days=999)) is None
