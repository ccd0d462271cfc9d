"""The rules of moving an alias: compare-and-set, epochs, idempotent requests. Pure.

Knows no store: each rule takes an adapter record and gives the one to write.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from selm.errors import SelmError
from selm.names import alias_name, revision_name
from trainer_svc.core import (
    Adapter,
    Alias,
    AppliedRequest,
    Move,
    Revision,
    RevisionState,
    ScopeMode,
)

REQUEST_MEMORY = timedelta(hours=24)


def applied(adapter: Adapter, move: Move) -> Alias | None:
    """The alias as an earlier request of the same id left it, if there was one."""
    if not move.request_id:
        return None
    for request in adapter.applied_requests:
        if request.request_id != move.request_id:
            continue
        if request.content != move.content:
            raise SelmError(
                "REQUEST_ID_REUSED",
                f"request_id {move.request_id} was used before with other content",
                metadata={"request_id": move.request_id},
            )
        return request.alias
    return None


def check_expected(adapter: Adapter, move: Move) -> None:
    """Refuses a move whose caller saw the alias elsewhere."""
    if move.expected_revision_id is None:
        return
    alias = adapter.alias(move.alias_id)
    actual = alias.revision_id if alias else ""
    if actual == move.expected_revision_id:
        return
    shown = {
        "expected": _name(adapter, move.expected_revision_id),
        "actual": _name(adapter, actual),
    }
    raise SelmError(
        "STALE_REVISION",
        f"{alias_name(adapter.adapter_id, move.alias_id)} points to "
        f"{shown['actual'] or 'nothing'}, not to {shown['expected'] or 'nothing'}",
        metadata=shown,
    )


def check_accepted(revision: Revision, *, force: bool) -> None:
    """Refuses a revision that no gate accepted, unless forced."""
    if revision.state is RevisionState.ACCEPTED or force:
        return
    metadata = {"verdict": str(revision.state)}
    if revision.manifest.evaluation_id:
        metadata["evaluation"] = f"evaluations/{revision.manifest.evaluation_id}"
    raise SelmError(
        "GATE_FAILED",
        f"{revision_name(revision.adapter_id, revision.revision_id)} is {revision.state}, "
        "not accepted by a gate",
        metadata=metadata,
    )


def rollback_target(adapter: Adapter, alias_id: str) -> str:
    """Revision a rollback without a named target goes to."""
    alias = adapter.alias(alias_id)
    if alias is None or not alias.previous_revision_id:
        name = alias_name(adapter.adapter_id, alias_id)
        raise SelmError(
            "NO_PREVIOUS_REVISION",
            f"{name} has never pointed anywhere else",
            metadata={"alias": name},
        )
    return alias.previous_revision_id


def moved(adapter: Adapter, move: Move, revision: Revision, time: datetime) -> Adapter:
    """The adapter with the alias on the revision, one epoch later, and the request remembered.

    Moving to where the alias already is counts too: replicas load and acknowledge anew, and the
    previous revision stays what it was.
    """
    before = adapter.alias(move.alias_id)
    previous = before.previous_revision_id if before else ""
    if before and before.revision_id != revision.revision_id:
        previous = before.revision_id
    alias = Alias(
        adapter_id=adapter.adapter_id,
        alias_id=move.alias_id,
        revision_id=revision.revision_id,
        previous_revision_id=previous,
        sha256=revision.sha256,
        scope_mode=move.scope_mode or (before.scope_mode if before else ScopeMode.SCOPED),
        epoch=(before.epoch if before else 0) + 1,
        updater=move.updater,
        reason=move.reason,
        update_time=time,
    )
    others = tuple(a for a in adapter.aliases if a.alias_id != move.alias_id)
    requests = _fresh(adapter.applied_requests, time)
    if move.request_id:
        requests += (AppliedRequest(move.request_id, move.content, alias),)
    return replace(
        adapter,
        aliases=tuple(sorted((*others, alias), key=lambda a: a.alias_id)),
        applied_requests=requests,
        update_time=time,
    )


def _fresh(requests: tuple[AppliedRequest, ...], time: datetime) -> tuple[AppliedRequest, ...]:
    return tuple(r for r in requests if time - r.alias.update_time < REQUEST_MEMORY)


def _name(adapter: Adapter, revision_id: str) -> str:
    return revision_name(adapter.adapter_id, revision_id) if revision_id else ""
