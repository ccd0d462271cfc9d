"""The one table from a published error reason to its gRPC code; knows no message and no detail."""

from collections.abc import Mapping

import grpc

# Reasons that stand in a Failure alone keep the code nearest in meaning.
_REASONS_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: (
        "INVALID_FIELD",
        "CONTEXT_TOO_LONG",
        "CURSOR_INVALID",
        "REQUEST_ID_REUSED",
        "FEEDBACK_CONTRADICTORY",
        "FEEDBACK_WITHOUT_CHANGE",
        "EMBEDDING_INVALID",
    ),
    grpc.StatusCode.NOT_FOUND: ("RESOURCE_NOT_FOUND", "ADAPTER_NOT_FOUND"),
    grpc.StatusCode.ALREADY_EXISTS: ("RESOURCE_EXISTS", "FEEDBACK_DUPLICATE"),
    grpc.StatusCode.ABORTED: (
        "STALE_REVISION",
        "STALE_ETAG",
        "LEASE_LOST",
        "ADAPTER_RETIRED",
        "CLIENT_TOO_SLOW",
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (
        "STATE_CONFLICT",
        "ADAPTER_INCOMPATIBLE",
        "ADAPTER_REJECTED",
        "ADAPTER_TAINTED",
        "NO_PREVIOUS_REVISION",
        "GATE_FAILED",
        "DATASET_EMPTY",
        "CONSENT_MISSING",
        "REVIEW_REQUIRED",
        "GENERATION_NOT_STORED",
        "DEVICE_UNSUPPORTED",
        "FEATURE_DISABLED",
        "TRAINING_NOT_FINITE",
        "ATTEMPTS_EXHAUSTED",
        "QUARANTINED",
        "REVIEW_REJECTED",
        "AUTHOR_SHARE_EXCEEDED",
        "SUPERSEDED",
    ),
    grpc.StatusCode.PERMISSION_DENIED: ("SCOPE_MISSING",),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        "QUEUE_FULL",
        "ADAPTER_SLOTS_EXHAUSTED",
        "KV_CACHE_EXHAUSTED",
        "STORAGE_FULL",
        "MESSAGE_TOO_LARGE",
        "TRAINING_OUT_OF_MEMORY",
        "DISK_FULL",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: ("DEADLINE_TOO_SHORT", "TIME_BUDGET_EXCEEDED"),
    grpc.StatusCode.CANCELLED: ("ABORTED_BY_CALLER",),
    grpc.StatusCode.UNAVAILABLE: (
        "STARTING",
        "DRAINING",
        "STORE_UNAVAILABLE",
        "BUS_UNAVAILABLE",
        "ARTIFACT_UNAVAILABLE",
        "CONSISTENCY_NOT_REACHED",
        "PEER_UNAVAILABLE",
    ),
    grpc.StatusCode.UNIMPLEMENTED: ("NOT_IMPLEMENTED",),
    grpc.StatusCode.DATA_LOSS: ("DIGEST_MISMATCH",),
    grpc.StatusCode.INTERNAL: ("INTERNAL",),
}

CODES: Mapping[str, grpc.StatusCode] = {
    reason: code for code, reasons in _REASONS_BY_CODE.items() for reason in reasons
}

# Promised by the contract to carry RetryInfo, beside everything UNAVAILABLE.
_RETRY_LATER = frozenset({"QUEUE_FULL", "ADAPTER_SLOTS_EXHAUSTED", "STORAGE_FULL"})


def promises_retry(reason: str) -> bool:
    """True if an error of this reason must say after how long to try again."""
    return CODES.get(reason) is grpc.StatusCode.UNAVAILABLE or reason in _RETRY_LATER


# What a status without ErrorInfo means: gRPC itself, or a proxy, answered in the peer's place.
REASON_WITHOUT_DETAILS: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAVAILABLE: "PEER_UNAVAILABLE",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE_TOO_SHORT",
    grpc.StatusCode.CANCELLED: "ABORTED_BY_CALLER",
    grpc.StatusCode.UNIMPLEMENTED: "NOT_IMPLEMENTED",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "MESSAGE_TOO_LARGE",
    grpc.StatusCode.NOT_FOUND: "RESOURCE_NOT_FOUND",
}
