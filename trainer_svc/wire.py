"""Requests checked and read into core's words; every violated field is reported at once."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from selm import names, pages
from selm.api.adapter.v1 import adapter_pb2, adapter_revision_pb2
from selm.api.adapter.v1 import adapter_service_pb2 as adapters
from selm.api.trainer.v1 import trainer_service_pb2 as trainer
from selm.api.trainer.v1 import training_job_pb2
from selm.errors import Violations
from trainer_svc.core import STABLE, Move, RevisionState, ScopeMode
from trainer_svc.jobs import JobState

T = TypeVar("T")

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
MAX_REASON_LENGTH = 500
_DIGEST_NAME = re.compile(r"adapters/([a-z][a-z0-9-]{2,62})/revisions/sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted. `cursor` is the last id of the page before, "" for none."""

    size: int
    cursor: str
    query: str


@dataclass(frozen=True)
class RevisionRef:
    """A revision by id, by alias or by digest: exactly one of the three is not ""."""

    adapter_id: str
    revision_id: str = ""
    alias_id: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class AliasWish:
    """AliasAdapterRevision, read."""

    revision: RevisionRef
    move: Move
    force: bool


@dataclass(frozen=True)
class RollbackWish:
    """RollbackAdapter, read. target "" is the alias's previous revision."""

    adapter_id: str
    target_revision_id: str
    move: Move


def parse_name(pattern: str, name: str, field: str = "name") -> str:
    """The one id of a name of that pattern."""
    found = Violations()
    ids = _ids(found, pattern, name, field)
    found.raise_if_any()
    return ids[0]


def parse_revision_name(name: str) -> RevisionRef:
    """A revision by id, alias id or `sha256:` digest."""
    found = Violations()
    reference = _revision(found, name, "name")
    found.raise_if_any()
    return reference


def parse_list_jobs(
    request: trainer.ListTrainingJobsRequest, tenant: str
) -> tuple[Page, str, frozenset[JobState]]:
    """Page, adapter id ("" for all) and states (empty for all)."""
    found = Violations()
    adapter_id = (
        _ids(found, names.ADAPTER, request.adapter, "adapter")[0] if request.adapter else ""
    )
    enum = training_job_pb2.TrainingJob.State
    states = [JobState(name) for name in _states(found, enum, request.states)]
    query = pages.digest("jobs", tenant, request.adapter, sorted(states))
    return _page(found, request, query), adapter_id, frozenset(states)


def parse_list_adapters(request: adapters.ListAdaptersRequest, tenant: str) -> Page:
    """The page."""
    return _page(Violations(), request, pages.digest("adapters", tenant))


def parse_list_revisions(
    request: adapters.ListAdapterRevisionsRequest, tenant: str
) -> tuple[Page, str | None, frozenset[RevisionState]]:
    """Page, adapter id (None for all) and states (empty for all)."""
    found = Violations()
    adapter_id = None
    if request.parent != "adapters/-":
        adapter_id = _ids(found, names.ADAPTER, request.parent, "parent")[0]
    enum = adapter_revision_pb2.AdapterRevision.State
    states = [RevisionState(name) for name in _states(found, enum, request.states)]
    query = pages.digest("revisions", tenant, request.parent, sorted(states))
    return _page(found, request, query), adapter_id, frozenset(states)


def parse_alias(request: adapters.AliasAdapterRevisionRequest, subject: str) -> AliasWish:
    """The move a caller wants, with the revision it names."""
    found = Violations()
    reference = _revision(found, request.name, "name")
    if not found and reference.alias_id == request.alias_id:
        found.add("name", "must not be the alias that is to move")
    found.check(
        names.is_id("alias", request.alias_id), "alias_id", f"must match {names.id_rule('alias')}"
    )
    expected = _same_adapter(found, request.expected_revision, "expected_revision", reference)
    scope_mode = None
    if request.scope_mode in adapter_pb2.ScopeMode.values():
        name = adapter_pb2.ScopeMode.Name(request.scope_mode).removeprefix("SCOPE_MODE_")
        scope_mode = ScopeMode(name) if name != "UNSPECIFIED" else None
    else:
        found.add("scope_mode", "is not a known mode")
    _check_reason(found, request.reason)
    _check_request_id(found, request.request_id)
    found.raise_if_any()
    reason = f"forced: {request.reason}".rstrip(": ") if request.force else request.reason
    move = Move(
        alias_id=request.alias_id,
        expected_revision_id=expected or None,
        scope_mode=scope_mode,
        updater=subject,
        reason=reason,
        request_id=request.request_id,
        content=_content(request),
    )
    return AliasWish(reference, move, request.force)


def parse_rollback(request: adapters.RollbackAdapterRequest, subject: str) -> RollbackWish:
    """The move back a caller wants."""
    found = Violations()
    adapter_id = _ids(found, names.ADAPTER, request.name, "name")[0]
    alias_id = request.alias_id or STABLE
    found.check(names.is_id("alias", alias_id), "alias_id", f"must match {names.id_rule('alias')}")
    owner = RevisionRef(adapter_id)
    target = _same_adapter(found, request.target_revision, "target_revision", owner)
    expected = _same_adapter(found, request.expected_revision, "expected_revision", owner)
    _check_reason(found, request.reason)
    _check_request_id(found, request.request_id)
    found.raise_if_any()
    move = Move(
        alias_id=alias_id,
        expected_revision_id=expected or None,
        scope_mode=None,
        updater=subject,
        reason=f"rollback: {request.reason}".rstrip(": "),
        request_id=request.request_id,
        content=_content(request),
    )
    return RollbackWish(adapter_id, target, move)


def parse_cancel(request: trainer.CancelTrainingJobRequest) -> str:
    """Id of the job to stop."""
    found = Violations()
    job_id = _ids(found, names.TRAINING_JOB, request.name, "name")[0]
    _check_request_id(found, request.request_id)
    found.raise_if_any()
    return job_id


def cut(items: Sequence[T], page: Page, id_of: Callable[[T], str]) -> tuple[list[T], str]:
    """The items of that page and the cursor of the next one, "" if this is the last.

    A list that changed meanwhile goes on after the same item, or starts over if that is gone.
    """
    ids = [id_of(item) for item in items]
    first = ids.index(page.cursor) + 1 if page.cursor in ids else 0
    found = list(items[first : first + page.size])
    has_more = first + page.size < len(items)
    return found, id_of(found[-1]) if has_more and found else ""


def _page(found: Violations, request: Any, query: str) -> Page:
    found.check(request.page_size >= 0, "page_size", "must not be negative")
    found.raise_if_any()
    size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    cursor = pages.decode(request.page_token, query) if request.page_token else ""
    return Page(size, cursor, query)


def _ids(found: Violations, pattern: str, name: str, field: str) -> tuple[str, ...]:
    ids = names.parse(pattern, name)
    if ids is None:
        found.add(field, f"must be {pattern}")
    return ids or ("",) * pattern.count("{")


def _revision(found: Violations, name: str, field: str) -> RevisionRef:
    if digest := _DIGEST_NAME.fullmatch(name):
        return RevisionRef(digest[1], sha256=digest[2])
    adapter_id, last = _ids(found, names.REVISION_OR_ALIAS, name, field)
    if names.is_id("revision", last):
        return RevisionRef(adapter_id, revision_id=last)
    return RevisionRef(adapter_id, alias_id=last)


def _same_adapter(found: Violations, name: str, field: str, owner: RevisionRef) -> str:
    """Id of an optional revision, which must be of the same adapter."""
    if not name:
        return ""
    adapter_id, revision_id = _ids(found, names.REVISION, name, field)
    if adapter_id and owner.adapter_id and adapter_id != owner.adapter_id:
        found.add(field, f"must be of {names.adapter_name(owner.adapter_id)}")
    return revision_id


def _states(found: Violations, enum: Any, values: Sequence[int]) -> list[str]:
    known = [value for value in values if value in enum.values()]
    found.check(len(known) == len(values), "states", "holds an unknown state")
    return [enum.Name(value).removeprefix("STATE_") for value in known if value]


def _check_reason(found: Violations, reason: str) -> None:
    fits = len(reason) <= MAX_REASON_LENGTH
    found.check(fits, "reason", f"must have at most {MAX_REASON_LENGTH} characters")


def _check_request_id(found: Violations, request_id: str) -> None:
    if not request_id:
        return
    try:
        is_uuid4 = UUID(request_id).version == 4
    except ValueError:
        is_uuid4 = False
    found.check(is_uuid4, "request_id", "must be a UUID4")


def _content(request: Any) -> str:
    """What a repeat under the same request_id must repeat."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("request_id")
    content: bytes = copy.SerializeToString(deterministic=True)
    return content.hex()
