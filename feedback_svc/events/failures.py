"""Why something did not end well, as read from a message."""

from feedback_svc import core
from selm.api.error.v1.error_reason_pb2 import ErrorReason, Failure
from selm.lesson_events import datetime_of


def failure_of(failure: Failure) -> core.Failure:
    return core.Failure(
        reason=_reason_name(failure.reason),
        message=failure.message,
        metadata=dict(failure.metadata),
        retryable=failure.retryable,
        time=datetime_of(failure.time) if failure.HasField("time") else None,
    )


def _reason_name(reason: ErrorReason.ValueType) -> str:
    """Name of a published reason without its prefix; empty for one of a newer peer."""
    if reason not in ErrorReason.values():
        return ""
    return ErrorReason.Name(reason).removeprefix("ERROR_REASON_").removeprefix("UNSPECIFIED")
