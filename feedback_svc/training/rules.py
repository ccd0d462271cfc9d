"""When an adapter learns by itself, and from which lessons. Pure: no clock, no broker."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from feedback_svc.learning import TrainingPolicy, Trigger
from selm.lessons import LessonRecord, LessonState

_TRIED = frozenset({LessonState.QUEUED, LessonState.TRAINED})
# Where no idle time bounds it, a stream of lessons puts learning off this many debounces at most.
_MAX_DEBOUNCES = 12
# A shared adapter with so many authors learns at most this share from one of them, unless told.
_MANY_AUTHORS = 20
_SHARE_OF_MANY = 0.05


@dataclass(frozen=True)
class Situation:
    """What the policy looks at for one adapter of one tenant."""

    lessons: tuple[LessonRecord, ...]
    has_waiting_request: bool = False
    last_request_time: datetime | None = None
    # A minute of the schedule has come since it was last heeded.
    is_due: bool = False


def decide(policy: TrainingPolicy, situation: Situation, now: datetime) -> Trigger | None:
    """What triggers a request now; None to wait.

    By count and age only fresh lessons count. One that a job gave back, or a rollback, waits for
    new ones, the schedule or a manual request: trying the same again at once would end the same.
    """
    if policy.paused or situation.has_waiting_request:
        return None
    if _seconds(situation.last_request_time, now) < policy.cooldown_s:
        return None
    if situation.is_due and waiting(situation.lessons):
        return Trigger.SCHEDULE
    fresh = [lesson for lesson in situation.lessons if is_fresh(lesson)]
    if not fresh:
        return None
    times = [lesson.update_time for lesson in fresh]
    quiet_s = _seconds(max(times), now)
    if 0 < policy.idle_s <= quiet_s:
        return Trigger.AGE
    # A stream of lessons without a pause must not put learning off for ever.
    limit_s = policy.idle_s or policy.debounce_s * _MAX_DEBOUNCES
    is_settled = quiet_s >= policy.debounce_s or _seconds(min(times), now) >= limit_s
    if len(fresh) >= policy.min_lessons and is_settled:
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


def author_share(policy: TrainingPolicy, authors: Iterable[str]) -> float:
    """Largest share of a training set from one of these authors; 0 is no limit."""
    if policy.max_author_share:
        return policy.max_author_share
    return _SHARE_OF_MANY if len(set(authors)) >= _MANY_AUTHORS else 0.0


def _seconds(since: datetime | None, now: datetime) -> float:
    """Time passed; a stamp from a clock that runs ahead counts as now."""
    if since is None:
        return float("inf")
    return max(0.0, (now - since).total_seconds())
