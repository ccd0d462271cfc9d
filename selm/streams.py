"""The streams, buckets and subjects of the bus: names and shapes only, no connection.

This file is the one place that spells a subject. Tokens are lower case and never hold a dot; ids
that could hold other characters (a user) travel as hex of their SHA-256.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

Retention = Literal["limits", "work_queue"]
Discard = Literal["new", "old"]

_DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class StreamSpec:
    """One JetStream stream: always on file storage, synced by the server on every write."""

    name: str
    subjects: tuple[str, ...]
    retention: Retention = "limits"
    # 0 keeps every message of a subject; 1 makes the stream "the present truth per subject".
    max_messages_per_subject: int = 0
    # 0 keeps messages for ever.
    max_age_s: float = 0.0
    # Repeats of one Nats-Msg-Id inside this window are dropped by the server.
    duplicate_window_s: float = 120.0
    # "new" refuses a write when full, so nothing acknowledged is ever discarded silently.
    discard: Discard = "new"
    # Takes atomic batches, which selm.group_commit stores with one sync to disk.
    has_batches: bool = False


@dataclass(frozen=True)
class BucketSpec:
    """One key-value bucket; `history` values are kept per key."""

    name: str
    history: int = 1


FEEDBACK_ERASED_PREFIX = "selm.feedback.erased"

GENERATIONS = StreamSpec(
    "GENERATIONS",
    ("selm.generation.finished.>",),
    max_messages_per_subject=1,
    max_age_s=30 * _DAY_S,
    discard="old",
)
FEEDBACK = StreamSpec(
    "FEEDBACK",
    ("selm.feedback.created.>", f"{FEEDBACK_ERASED_PREFIX}.>"),
    duplicate_window_s=3600.0,
    has_batches=True,
)
LESSONS = StreamSpec("LESSONS", ("selm.lesson.>",), duplicate_window_s=3600.0, has_batches=True)
TRAINING = StreamSpec("TRAINING", ("selm.training.requested.>",), retention="work_queue")
# The durable consumer of all trainers; feedback_svc asks it what has been handed out.
TRAINERS = "trainer_train"
ADAPTERS = StreamSpec(
    "ADAPTERS", ("selm.adapter.aliased.>",), max_messages_per_subject=1, discard="old"
)
ROLLOUTS = StreamSpec(
    "ROLLOUTS", ("selm.adapter.acknowledged.>",), max_messages_per_subject=1, discard="old"
)
JOBS = StreamSpec(
    "JOBS", ("selm.training_job.updated.>",), max_messages_per_subject=1, discard="old"
)
DEAD_LETTERS = StreamSpec("DEAD_LETTERS", ("selm.dead_letter.created.>",))
# Stored messages that a consumer shall handle once more, beside their stream and by the same rules.
REDELIVERIES = StreamSpec("REDELIVERIES", ("selm.redelivery.requested.>",), retention="work_queue")
# Never purged: what was deleted stays deleted, whatever backup a store is restored from.
TOMBSTONES = StreamSpec(
    "TOMBSTONES", ("selm.memory.deleted.>",), max_messages_per_subject=1, discard="old"
)

# Kept for ever, the present truth per subject: who is to be forgotten, how far each service is.
ERASURES = StreamSpec(
    "ERASURES",
    ("selm.erasure.requested.>", "selm.erasure.confirmed.>"),
    max_messages_per_subject=1,
    discard="old",
)

STREAMS: tuple[StreamSpec, ...] = (
    GENERATIONS,
    FEEDBACK,
    LESSONS,
    TRAINING,
    ADAPTERS,
    ROLLOUTS,
    JOBS,
    DEAD_LETTERS,
    REDELIVERIES,
    TOMBSTONES,
    ERASURES,
)

BUCKETS: tuple[BucketSpec, ...] = (
    BucketSpec("adapters", history=16),
    BucketSpec("revisions", history=4),
    BucketSpec("jobs", history=8),
    BucketSpec("evaluations"),
    BucketSpec("datasets"),
    # What feedback_svc froze for people to take out; the trainers' own sets are in `datasets`.
    BucketSpec("frozen_datasets"),
    # What no revision may hold any more, and which ones do; see trainer_svc.registry.taints.
    BucketSpec("taints"),
    BucketSpec("request_ids"),
    BucketSpec("reembed_jobs", history=4),
    # What was set about who gives feedback, and what a reviewer chose where they disagree.
    BucketSpec("authors", history=4),
    BucketSpec("conflicts", history=4),
    BucketSpec("training_policies", history=4),
    # Requests that trainers shall stop working on.
    BucketSpec("training_cancellations"),
    # What people decided about dead letters.
    BucketSpec("dead_letters"),
)

ARTIFACTS_BUCKET = "artifacts"


def stream_spec(name: str) -> StreamSpec:
    """The spec of a stream by its name; KeyError for a stream that is not ours."""
    return _SPECS[name]


def stream_of(subject: str) -> StreamSpec | None:
    """The stream that stores a subject, if one of ours does."""
    for spec in STREAMS:
        if any(subject.startswith(filter_.removesuffix(">")) for filter_ in spec.subjects):
            return spec
    return None


def bucket_spec(name: str) -> BucketSpec:
    """The spec of a bucket by its name; KeyError for a bucket that is not ours."""
    return _BUCKET_SPECS[name]


def user_hash(user: str) -> str:
    """First 32 hex digits of the SHA-256 of a user name such as `users/anonymous`."""
    return hashlib.sha256(user.encode()).hexdigest()[:32]


def tenant_of(subject: str) -> str:
    """The tenant token of any subject built here: always the fourth."""
    return _token(subject.split(".")[3])


def generation_finished(tenant: str, generation_id: str) -> str:
    return _join("selm.generation.finished", tenant, generation_id)


def generation_abort(tenant: str, generation_id: str) -> str:
    """Core NATS, not stored."""
    return _join("selm.generation.abort", tenant, generation_id)


def feedback_created(tenant: str, user: str) -> str:
    return _join("selm.feedback.created", tenant, user_hash(user))


def feedback_erased(tenant: str) -> str:
    return _join(FEEDBACK_ERASED_PREFIX, tenant)


def lesson_advanced(state: str, tenant: str, lesson_id: str) -> str:
    """`state` is the lesson state in lower case, e.g. `remembered`."""
    return _join("selm.lesson", state, tenant, lesson_id)


def training_requested(tenant: str) -> str:
    return _join("selm.training.requested", tenant)


def training_job_updated(tenant: str, job_id: str) -> str:
    return _join("selm.training_job.updated", tenant, job_id)


def adapter_aliased(tenant: str, adapter_id: str, alias_id: str) -> str:
    return _join("selm.adapter.aliased", tenant, adapter_id, alias_id)


def adapter_acknowledged(tenant: str, adapter_id: str, replica_token: str) -> str:
    return _join("selm.adapter.acknowledged", tenant, adapter_id, replica_token)


def memory_deleted(tenant: str, memory_id: str) -> str:
    return _join("selm.memory.deleted", tenant, memory_id)


def erasure_requested(tenant: str, erasure_id: str) -> str:
    return _join("selm.erasure.requested", tenant, erasure_id)


def erasure_confirmed(tenant: str, erasure_id: str, service: str) -> str:
    return _join("selm.erasure.confirmed", tenant, erasure_id, service)


def dead_letter_created(tenant: str, dead_letter_id: str) -> str:
    return _join("selm.dead_letter.created", tenant, dead_letter_id)


def redelivery_requested(tenant: str, durable: str) -> str:
    """For one durable consumer; the tenant stands fourth as everywhere."""
    return _join("selm.redelivery.requested", tenant, durable)


def any_of(prefix: str) -> str:
    """The filter for every subject below a prefix, e.g. `selm.lesson.verified`."""
    return f"{prefix}.>"


def replica_token(instance: str) -> str:
    """A subject token for a replica's instance name, which may hold dots: 32 hex digits."""
    return hashlib.sha256(instance.encode()).hexdigest()[:32]


def _join(prefix: str, *tokens: str) -> str:
    return ".".join((prefix, *map(_token, tokens)))


def _token(token: str) -> str:
    # `*` or `>` in a token would turn one tenant's subject into everybody's.
    if not token or any(character in token for character in ".*> \t\r\n"):
        raise ValueError(f"not a subject token: {token!r}")
    return token


_SPECS = {spec.name: spec for spec in STREAMS}
_BUCKET_SPECS = {spec.name: spec for spec in BUCKETS}
