"""When a schedule is due: five-field cron in UTC. Pure; cronsim reads the fields."""

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

_NUM_FIELDS = 5


def fault_of(schedule: str) -> str:
    """What is wrong with a schedule, in words; empty if nothing is."""
    if len(schedule.split()) != _NUM_FIELDS:
        return "must have five fields: minute, hour, day of month, month, day of week"
    try:
        next(CronSim(schedule, datetime(2000, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        return f"is no cron: {error}"
    except StopIteration:
        return "never comes"
    return ""


def due_minute(schedule: str, since: datetime, now: datetime) -> datetime | None:
    """The first minute of the schedule behind `since`, if it has come. What was missed is due once:
    whoever heeds it goes on from `now`."""
    if not schedule:
        return None
    try:
        minute = next(CronSim(schedule, since.astimezone(UTC)))
    except (CronSimError, StopIteration):
        return None
    return minute if minute <= now else None
