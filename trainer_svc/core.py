"""The nouns of the registry: adapter, alias, revision, manifest, evaluation.

Knows neither NATS, gRPC nor torch. Ids are bare here; names (`adapters/a`) are made at the border.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

STABLE = "stable"
DEFAULT_ADAPTER = "default"
SERVICE = "trainer_svc"


def now() -> datetime:
    """The present in UTC."""
    return datetime.now(UTC)


class ScopeMode(StrEnum):
    """When an adapter takes part in an answer."""

    SCOPED = "SCOPED"
    ALWAYS = "ALWAYS"


class RevisionState(StrEnum):
    """What may be done with a revision."""

    CANDIDATE = "CANDIDATE"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"


class Verdict(StrEnum):
    """What the gate says."""

    PROMOTE = "PROMOTE"
    REJECT = "REJECT"
    ABSTAIN = "ABSTAIN"


@dataclass(frozen=True)
class Failure:
    """Why something that outlives one call did not work."""

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    retryable: bool = False
    time: datetime = field(default_factory=now)


@dataclass(frozen=True)
class LoraShape:
    """Shape of the LoRA matrices, all defaults filled in."""

    rank: int = 0
    alpha: float = 0.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class ArmResult:
    """Value of one arm on one slice."""

    arm: str
    value: float


@dataclass(frozen=True)
class SliceResult:
    """What the gate found on one kind of question."""

    slice: str
    verdict: Verdict
    threshold: float = 0.0
    arms: tuple[ArmResult, ...] = ()
    example_count: int = 0
    explanation: str = ""


@dataclass(frozen=True)
class Evaluation:
    """A judgement of one revision against what served when it was trained."""

    tenant: str
    evaluation_id: str
    adapter_id: str
    revision_id: str
    baseline_revision_id: str
    job_id: str
    verdict: Verdict
    reasons: tuple[str, ...]
    slices: tuple[SliceResult, ...]
    sha256: str
    create_time: datetime
    end_time: datetime
    # What the judged weights hold, as their artifact says.
    lesson_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """Where the bytes of a revision are."""

    uri: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a revision is made of."""

    weights_sha256: str
    config_sha256: str
    base_model: str
    base_sha256: str
    lora: LoraShape
    dataset_id: str
    dataset_sha256: str
    lessons_sha256: str
    lesson_count: int
    newest_lesson_time: datetime | None
    job_id: str
    evaluation_id: str
    objective: str
    from_base: bool


@dataclass(frozen=True)
class Revision:
    """Immutable weights; only the verdict about them may change."""

    tenant: str
    adapter_id: str
    revision_id: str
    state: RevisionState
    sha256: str
    parent_revision_id: str
    manifest: Manifest
    artifact: Artifact
    create_time: datetime
    failure: Failure | None = None


@dataclass(frozen=True)
class Alias:
    """A movable pointer to a revision. `epoch` counts its moves."""

    adapter_id: str
    alias_id: str
    revision_id: str
    previous_revision_id: str
    sha256: str
    scope_mode: ScopeMode
    epoch: int
    updater: str
    reason: str
    update_time: datetime


@dataclass(frozen=True)
class AppliedRequest:
    """A move done under a request id, so that a repeat gets the same answer."""

    request_id: str
    content: str
    alias: Alias


@dataclass(frozen=True)
class Adapter:
    """A named line of revisions with its aliases, changed as one record."""

    tenant: str
    adapter_id: str
    base_model: str
    create_time: datetime
    update_time: datetime
    display_name: str = ""
    aliases: tuple[Alias, ...] = ()
    applied_requests: tuple[AppliedRequest, ...] = ()

    def alias(self, alias_id: str) -> Alias | None:
        """The alias of that id, if it exists."""
        return next((a for a in self.aliases if a.alias_id == alias_id), None)


@dataclass(frozen=True)
class Move:
    """A wish to point an alias at a revision.

    expected_revision_id None sets no condition; "" wants the alias absent.
    """

    alias_id: str
    expected_revision_id: str | None
    scope_mode: ScopeMode | None
    updater: str
    reason: str
    request_id: str
    # What makes two requests the same; another content under one request id is refused.
    content: str
