"""The error vocabulary and its wire form. Domain code raises; only this border knows gRPC.

SelmError               anything an RPC, a job or a lesson may fail with; its reason decides
+-- InvalidFields       INVALID_FIELD, with every violation of the request at once
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from selm.api.error.v1 import error_reason_pb2
from selm.reasons import CODES, REASON_WITHOUT_DETAILS, promises_retry

DOMAIN = "selm.dev"
DEFAULT_RETRY_AFTER_S = 1.0
# A status travels in HTTP/2 trailers, of which clients accept 8 KiB: a longer one is lost whole.
MAX_MESSAGE_LENGTH = 512
MAX_VALUE_LENGTH = 256
MAX_VIOLATIONS = 16


class SelmError(Exception):
    """Something failed for a reason that a caller can branch on; the message is for people."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        resource: str | None = None,
        code: grpc.StatusCode | None = None,
    ) -> None:
        """`code` is given only for reasons of a newer peer: all of ours stand in the table."""
        super().__init__(message)
        if code is None and reason not in CODES:
            raise ValueError(f"{reason} is not a published error reason")
        self.reason = reason
        self.message = message
        self.metadata: dict[str, str] = {key: str(value) for key, value in (metadata or {}).items()}
        self.resource = resource
        self.code: grpc.StatusCode = CODES[reason] if code is None else code
        if retry_after_s is None and promises_retry(reason):
            retry_after_s = DEFAULT_RETRY_AFTER_S
        self.retry_after_s = retry_after_s

    @property
    def is_retryable(self) -> bool:
        """The same again may succeed without anyone changing anything."""
        return self.retry_after_s is not None or self.reason == "LEASE_LOST"

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True)
class FieldViolation:
    """One field that breaks its stated bound; `field` is its path from the request."""

    field: str
    description: str


class InvalidFields(SelmError):  # noqa: N818 - it is said of a request, like not_found
    """A request breaks the bounds of one or more of its fields."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        self.violations = tuple(violations)
        message = "; ".join(f"{v.field}: {v.description}" for v in self.violations)
        fields = ",".join(dict.fromkeys(v.field for v in self.violations))
        super().__init__("INVALID_FIELD", message, metadata={"fields": fields})


class Violations:
    """Collects what is wrong with one request, so that its caller learns everything at once."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, field: str, description: str) -> None:
        self._found.append(FieldViolation(field, description))

    def check(self, condition: bool, field: str, description: str) -> bool:
        """Adds a violation unless the condition holds; returns the condition."""
        if not condition:
            self.add(field, description)
        return condition

    def raise_if_any(self) -> None:
        if self._found:
            raise InvalidFields(self._found)


def not_found(resource_name: str) -> SelmError:
    """No such resource for this tenant; a foreign tenant's name gets the same words."""
    return SelmError(
        "RESOURCE_NOT_FOUND",
        f"{resource_name} does not exist",
        metadata={"resource_name": resource_name},
        resource=resource_name,
    )


def adapter_not_found(name: str) -> SelmError:
    """The adapter, revision, alias or digest asked for is unknown."""
    return SelmError(
        "ADAPTER_NOT_FOUND",
        f"{name} is not an adapter, revision or alias here",
        metadata={"adapter": name},
        resource=name,
    )


def unavailable(
    reason: str, message: str, *, retry_after_s: float = DEFAULT_RETRY_AFTER_S, **metadata: str
) -> SelmError:
    """Something this RPC needs does not answer right now."""
    return SelmError(reason, message, metadata=metadata, retry_after_s=retry_after_s)


def to_status(error: SelmError, correlation_id: str) -> status_pb2.Status:
    """The wire form of an error: always one ErrorInfo, and the details its reason promises."""
    status = status_pb2.Status(
        code=error.code.value[0], message=_cut(error.message, MAX_MESSAGE_LENGTH)
    )
    for detail in _details(error, correlation_id):
        status.details.add().Pack(detail)
    return status


def _details(error: SelmError, correlation_id: str) -> list[Message]:
    metadata = {key: _cut(value) for key, value in error.metadata.items()}
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    ]
    if isinstance(error, InvalidFields):
        bad_request = error_details_pb2.BadRequest()
        for violation in error.violations[:MAX_VIOLATIONS]:
            bad_request.field_violations.add(
                field=_cut(violation.field, 128), description=_cut(violation.description, 128)
            )
        details.append(bad_request)
    if error.resource is not None:
        details.append(error_details_pb2.ResourceInfo(resource_name=_cut(error.resource)))
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(retry)
    if error.reason == "ADAPTER_INCOMPATIBLE":
        precondition = error_details_pb2.PreconditionFailure()
        subject = metadata.get("field", "")
        precondition.violations.add(
            type=error.reason, subject=subject, description=_cut(error.message)
        )
        details.append(precondition)
    if error.code is grpc.StatusCode.INTERNAL:
        details.append(error_details_pb2.RequestInfo(request_id=correlation_id))
    return details


def _cut(text: str, length: int = MAX_VALUE_LENGTH) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def from_rpc_error(error: grpc.aio.AioRpcError) -> SelmError:
    """The error that a peer answered, as it was raised there."""
    code = error.code()
    text = error.details() or code.name
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        # The details contradict the code: whoever sent them is not one of ours.
        status = None
    for packed in status.details if status is not None else ():
        for detail in (info, bad_request, retry):
            packed.Unpack(detail)
    if info.domain != DOMAIN:
        return SelmError(REASON_WITHOUT_DETAILS.get(code, "INTERNAL"), text, code=code)
    if info.reason == "INVALID_FIELD":
        found = bad_request.field_violations
        return InvalidFields([FieldViolation(v.field, v.description) for v in found])
    metadata = dict(info.metadata)
    return SelmError(
        info.reason,
        text,
        metadata=metadata,
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9 or None,
        resource=metadata.get("resource_name"),
        code=code,
    )


def to_failure(error: SelmError) -> error_reason_pb2.Failure:
    """The typed form that resources and events carry instead of a status."""
    name = f"ERROR_REASON_{error.reason}"
    known = error_reason_pb2.ErrorReason.keys()
    failure = error_reason_pb2.Failure(
        reason=error_reason_pb2.ErrorReason.Value(
            name if name in known else "ERROR_REASON_INTERNAL"
        ),
        message=error.message,
        metadata=error.metadata,
        retryable=error.is_retryable,
    )
    failure.time.FromNanoseconds(time.time_ns())
    return failure
