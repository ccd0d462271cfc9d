"""Why something did not end well, as it is answered."""

from feedback_svc import core
from selm.api.error.v1.error_reason_pb2 import ErrorReason, Failure
from selm.lessons import LessonRecord, LessonState


def render_failure(failure: core.Failure) -> Failure:
    rendered = Failure(
        reason=_reason(failure.reason),
        message=failure.message,
        metadata=failure.metadata,
        retryable=failure.retryable,
    )
    if failure.time:
        rendered.time.FromDatetime(failure.time)
    return rendered


def render_lesson_failure(record: LessonRecord) -> Failure:
    """A step says why in words that may begin with a published reason, `GATE_FAILED: ...`."""
    head, _, rest = record.failure.partition(": ")
    known = _reason(head)
    failure = Failure(
        reason=known,
        message=rest if known and rest else record.failure,
        retryable=record.state not in {LessonState.FAILED, LessonState.REJECTED},
    )
    failure.time.FromDatetime(record.update_time)
    return failure


def _reason(name: str) -> ErrorReason.ValueType:
    full_name = f"ERROR_REASON_{name}"
    if full_name in ErrorReason.keys():  # noqa: SIM118 - an enum wrapper is no dict
        return ErrorReason.Value(full_name)
    return ErrorReason.ERROR_REASON_UNSPECIFIED
