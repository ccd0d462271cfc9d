"""When an adapter shall learn by itself, and from which lessons. Pure: no clock, no broker."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from feedback_svc.learning import PolicySettings, Trigger
from selm.lessons import LessonRecord, LessonState

_TRIED = frozenset({LessonState.QUEUED, LessonState.TRAINED})


@dataclass(frozen=True)
class Situation:
    """What the policy looks at for one adapter of one tenant."""

    lessons: tuple[LessonRecord, ...]
    has_waiting_request: bool = False
    last_request_time: datetime | None = None


def decide(settings: PolicySettings, situation: Situation, now: datetime) -> Trigger | None:
    """What triggers a request now; None to wait.

    Only fresh lessons count. One that a job gave back, or a rollback, waits for new ones or for a
    manual request: trying the same again by itself would end the same.
    """
    fresh = [lesson for lesson in situation.lessons if is_fresh(lesson)]
    if settings.paused or situation.has_waiting_request or not fresh:
        return None
    if _seconds(situation.last_request_time, now) < settings.cooldown_s:
        return None
    times = [lesson.update_time for lesson in fresh]
    quiet_s = _seconds(max(times), now)
    if quiet_s >= settings.idle_s:
        return Trigger.AGE
    # A stream of lessons without a pause must not put learning off for ever.
    is_settled = quiet_s >= settings.debounce_s or _seconds(min(times), now) >= settings.idle_s
    if len(fresh) >= settings.min_lessons and is_settled:
        return Trigger.COUNT
    return None


def is_fresh(lesson: LessonRecord) -> bool:
    """Remembered and never tried."""
    is_tried = any(step.state in _TRIED for step in lesson.transitions)
    return lesson.state is LessonState.REMEMBERED and not is_tried


def waiting(lessons: Iterable[LessonRecord]) -> list[LessonRecord]:
    """Lessons not in a request, oldest first: what a request made now covers."""
    states = {LessonState.RECEIVED, LessonState.REMEMBERED}
    return sorted((x for x in lessons if x.state in states), key=lambda x: x.sequence)


def _seconds(since: datetime | None, now: datetime) -> float:
    """Time passed; a stamp from a clock that runs ahead counts as now."""
    if since is None:
        return float("inf")
    return max(0.0, (now - since).total_seconds())
