"""Adapter revisions as inference sees them: how one is asked for, what it is, where it is held.

Knows no registry, no file and no engine.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from selm.errors import SelmError

DEFAULT_ALIAS = "stable"


class ScopeMode(Enum):
    """When an adapter takes part."""

    SCOPED = "SCOPED"
    ALWAYS = "ALWAYS"


class AdapterReason(Enum):
    """Why the adapter took part or not; names as on the wire."""

    ALWAYS = "ALWAYS"
    IN_SCOPE = "IN_SCOPE"
    OUT_OF_SCOPE = "OUT_OF_SCOPE"
    LESSON_NEWER = "LESSON_NEWER"
    LESSON_NOT_HELD = "LESSON_NOT_HELD"
    SCOPE_UNKNOWN = "SCOPE_UNKNOWN"
    BASE_REQUESTED = "BASE_REQUESTED"
    NOTHING_PROMOTED = "NOTHING_PROMOTED"


@dataclass(frozen=True)
class Selector:
    """Which weights shall answer. At most one of the targets is set."""

    adapter: str = ""
    revision: str = ""
    alias_id: str = ""
    sha256: str = ""
    is_base: bool = False
    scope_mode: ScopeMode | None = None

    @property
    def is_default(self) -> bool:
        return not (self.adapter or self.sha256 or self.is_base)


@dataclass(frozen=True)
class Revision:
    """An immutable adapter revision as the registry describes it."""

    tenant: str
    name: str
    sha256: str
    base_sha256: str
    weights_sha256: str
    config_sha256: str
    lessons_sha256: str
    artifact_uri: str
    artifact_sha256: str
    size_bytes: int
    newest_lesson_time: datetime | None = None

    @property
    def adapter(self) -> str:
        return self.name.rsplit("/revisions/", 1)[0]


@dataclass(frozen=True)
class AliasMove:
    """An alias points to a revision from now on."""

    tenant: str
    adapter: str
    alias_id: str
    revision: Revision
    scope_mode: ScopeMode
    # Only a higher one than applied last counts.
    epoch: int


@dataclass(frozen=True)
class Selection:
    """What a selector led to, resolved once."""

    revision: Revision | None
    adapter: str = ""
    alias_id: str = ""
    scope_mode: ScopeMode = ScopeMode.SCOPED
    # Set without a revision: why the base answers.
    reason: AdapterReason | None = None
    lessons: frozenset[str] = frozenset()


class LoadState(Enum):
    """What a replica does with a revision."""

    LOADING = "LOADING"
    ACTIVE = "ACTIVE"
    FAILED = "FAILED"


@dataclass(frozen=True)
class HeldAdapter:
    """One revision as this replica holds it now."""

    tenant: str
    revision: str
    sha256: str
    state: LoadState
    alias_ids: tuple[str, ...] = ()
    slot: int | None = None
    size_bytes: int = 0
    num_leases: int = 0
    load_duration_s: float = 0.0
    last_failure: SelmError | None = None
    failure_time: datetime | None = None
    load_time: datetime | None = None
    last_use_time: datetime | None = None
    retry_time: datetime | None = None
