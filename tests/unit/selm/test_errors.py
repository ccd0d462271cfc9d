"""Errors: one table, one wire form, nothing lost on the way back."""

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from selm.api.error.v1 import error_reason_pb2
from selm.errors import (
    FieldViolation,
    InvalidFields,
    SelmError,
    Violations,
    adapter_not_found,
    from_rpc_error,
    not_found,
    to_failure,
    to_status,
    unavailable,
)
from selm.reasons import CODES

PUBLISHED = {
    name.removeprefix("ERROR_REASON_")
    for name in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118 - an enum wrapper, no dict
    if not name.endswith("_UNSPECIFIED")
}


def _details(error: SelmError) -> dict[str, object]:
    found = {}
    for packed in to_status(error, "id-1").details:
        detail = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])()
        packed.Unpack(detail)
        found[type(detail).__name__] = detail
    return found


def _received(error: SelmError) -> SelmError:
    status = rpc_status.to_status(to_status(error, "id-1"))
    return from_rpc_error(
        grpc.aio.AioRpcError(
            status.code,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(*status.trailing_metadata),
            details=status.details,
        )
    )


def test_every_published_reason_has_exactly_one_code() -> None:
    """The table and the contract name the same reasons."""

    assert set(CODES) == PUBLISHED


def test_an_unpublished_reason_cannot_be_raised() -> None:
    """A reason that clients cannot look up never leaves this house."""
    with pytest.raises(ValueError, match="NO_SUCH_REASON"):
        SelmError("NO_SUCH_REASON", "x")


@pytest.mark.parametrize("reason", sorted(PUBLISHED))
def test_every_error_survives_the_wire(reason: str) -> None:
    """What a peer raised is what the caller gets: reason, code, text, metadata, retry delay."""
    sent = SelmError(reason, "because", metadata={"a": "b"})
    got = _received(sent) if reason != "INVALID_FIELD" else _received(InvalidFields([]))

    assert (got.reason, got.code) == (sent.reason, sent.code)
    if reason != "INVALID_FIELD":
        assert (got.message, got.metadata) == (sent.message, sent.metadata)
        assert got.retry_after_s == sent.retry_after_s


def test_an_error_info_names_reason_domain_and_metadata() -> None:
    """Clients branch on ErrorInfo, never on the text."""
    info = _details(SelmError("STALE_REVISION", "moved", metadata={"expected": "r1"}))["ErrorInfo"]

    assert (info.reason, info.domain) == ("STALE_REVISION", "selm.dev")
    assert dict(info.metadata) == {"expected": "r1"}


def test_all_violations_travel_together() -> None:
    """A caller learns everything that is wrong with its request at once."""
    violations = Violations()
    violations.check(False, "options.user", "must be a user name")
    violations.check(True, "options.store", "never said")
    violations.add("page_size", "must not be negative")
    with pytest.raises(InvalidFields) as caught:
        violations.raise_if_any()
    received = _received(caught.value)

    assert isinstance(received, InvalidFields)
    assert received.violations == (
        FieldViolation("options.user", "must be a user name"),
        FieldViolation("page_size", "must not be negative"),
    )
    assert received.metadata == {"fields": "options.user,page_size"}


def test_no_violation_raises_nothing() -> None:
    """A valid request passes."""
    violations = Violations()
    violations.raise_if_any()

    assert not violations


def test_a_status_always_fits_into_trailers() -> None:
    """A thousand violations of long fields must not make the whole status vanish."""
    error = InvalidFields([FieldViolation("f" * 500, "d" * 500)] * 1000)

    assert to_status(error, "id-1").ByteSize() < 6000


def test_retry_info_comes_with_every_reason_that_promises_it() -> None:
    """UNAVAILABLE and full queues say after how long to try again."""

    assert "RetryInfo" in _details(SelmError("QUEUE_FULL", "full"))
    assert "RetryInfo" not in _details(SelmError("STALE_REVISION", "moved"))
    delay = _details(unavailable("BUS_UNAVAILABLE", "down", retry_after_s=2.5, stream="F"))
    assert delay["RetryInfo"].retry_delay.ToMilliseconds() == 2500


def test_absent_resources_are_named() -> None:
    """NOT_FOUND says which name it was about."""

    assert _details(not_found("lessons/1"))["ResourceInfo"].resource_name == "lessons/1"
    assert _received(adapter_not_found("adapters/a")).metadata == {"adapter": "adapters/a"}


def test_a_bug_carries_the_id_to_quote() -> None:
    """INTERNAL says nothing but where to find it in the log."""

    assert _details(SelmError("INTERNAL", "internal error"))["RequestInfo"].request_id == "id-1"


def test_a_newer_peers_reason_keeps_its_code() -> None:
    """An unknown reason is passed on, not lost."""
    sent = SelmError("FROM_THE_FUTURE", "x", code=grpc.StatusCode.ABORTED)

    assert (_received(sent).reason, _received(sent).code) == ("FROM_THE_FUTURE", sent.code)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "PEER_UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT"),
        (grpc.StatusCode.UNKNOWN, "INTERNAL"),
    ],
)
def test_a_status_without_details_still_has_a_reason(code: grpc.StatusCode, reason: str) -> None:
    """gRPC itself answers for a peer that is gone."""
    raw = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="x")

    assert (from_rpc_error(raw).reason, from_rpc_error(raw).code) == (reason, code)


def test_a_failure_repeats_the_error_in_typed_form() -> None:
    """Jobs and lessons carry the same reason, without Any."""
    failure = to_failure(SelmError("BUS_UNAVAILABLE", "down", metadata={"stream": "TRAINING"}))

    assert failure.reason == error_reason_pb2.ERROR_REASON_BUS_UNAVAILABLE
    assert failure.retryable
    assert dict(failure.metadata) == {"stream": "TRAINING"}
    assert failure.time.seconds > 0
