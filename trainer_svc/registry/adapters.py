"""Adapters and their aliases: one KV record per adapter, so that a move is one compare-and-set.

The rules of a move stand in aliases.py; this file owns the loop around them. Announces nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from selm.errors import SelmError, adapter_not_found
from selm.names import adapter_name
from trainer_svc.core import Adapter, Alias, Move, Revision, now
from trainer_svc.registry.aliases import (
    applied,
    check_accepted,
    check_expected,
    moved,
    rollback_target,
)
from trainer_svc.registry.revisions import RevisionRegistry
from trainer_svc.registry.table import MAX_CHANGE_ATTEMPTS, Table
from trainer_svc.registry.taints import TaintRegistry


@dataclass(frozen=True)
class Moved:
    """The alias after a move and the revision it points to."""

    alias: Alias
    revision: Revision


class AdapterRegistry:
    """The one writer of adapter records."""

    def __init__(
        self, table: Table[Adapter], revisions: RevisionRegistry, taints: TaintRegistry
    ) -> None:
        self._table = table
        self._revisions = revisions
        self._taints = taints

    async def ensure(self, tenant: str, adapter_id: str, base_model: str) -> Adapter:
        """The adapter, created empty if it is new."""
        time = now()
        fresh = Adapter(tenant, adapter_id, base_model, time, time)
        return await self._table.create(_key(tenant, adapter_id), fresh)

    async def get(self, tenant: str, adapter_id: str) -> Adapter:
        """The adapter; ADAPTER_NOT_FOUND if the tenant has none of that id."""
        stored = await self._table.find(_key(tenant, adapter_id))
        if stored is None:
            raise adapter_not_found(adapter_name(adapter_id))
        return stored.record

    async def list_all(self, tenant: str) -> list[Adapter]:
        """All adapters of the tenant, by id."""
        found = await self._table.list_all(f"{tenant}.")
        return sorted(found, key=lambda adapter: adapter.adapter_id)

    async def list_everywhere(self) -> list[Adapter]:
        """All adapters of all tenants, for the reconcile at start."""
        return await self._table.list_all("")

    async def move(
        self,
        tenant: str,
        adapter_id: str,
        revision_id: str,
        move: Move,
        *,
        force: bool = False,
        check: Callable[[], Awaitable[None]] | None = None,
    ) -> Moved:
        """Points an alias at a revision, once per request id. `check` may refuse until the last
        moment, but not what an earlier request of that id has done."""
        return await self._apply(tenant, adapter_id, move, lambda _: (revision_id, force), check)

    async def roll_back(
        self, tenant: str, adapter_id: str, target_revision_id: str, move: Move
    ) -> Moved:
        """Points an alias back at its previous revision, or at the one named if that is not "".

        Rolling back twice returns to the newer one: previous swaps with each move. Where the alias
        has been before needs no gate again.
        """

        def choose(adapter: Adapter) -> tuple[str, bool]:
            if not target_revision_id:
                return rollback_target(adapter, move.alias_id), True
            alias = adapter.alias(move.alias_id)
            is_previous = alias is not None and alias.previous_revision_id == target_revision_id
            return target_revision_id, is_previous

        return await self._apply(tenant, adapter_id, move, choose)

    async def _apply(
        self,
        tenant: str,
        adapter_id: str,
        move: Move,
        choose: Callable[[Adapter], tuple[str, bool]],
        check: Callable[[], Awaitable[None]] | None = None,
    ) -> Moved:
        key = _key(tenant, adapter_id)
        for _ in range(MAX_CHANGE_ATTEMPTS):
            stored = await self._table.find(key)
            if stored is None:
                raise adapter_not_found(adapter_name(adapter_id))
            if (before := applied(stored.record, move)) is not None:
                revision = await self._revisions.get(tenant, adapter_id, before.revision_id)
                return Moved(before, revision)
            check_expected(stored.record, move)
            revision_id, force = choose(stored.record)
            revision = await self._revisions.get(tenant, adapter_id, revision_id)
            check_accepted(revision, force=force)
            present = stored.record.alias(move.alias_id)
            if present is None or present.revision_id != revision_id:
                # Even if forced. Where it points already it may stay until another takes its place.
                await self._taints.check(tenant, adapter_id, revision_id)
            if check is not None:
                await check()
            changed = moved(stored.record, move, revision, now())
            try:
                await self._table.write(key, changed, stored.revision)
            except SelmError as error:
                if error.reason != "STALE_REVISION":
                    raise
                # Someone else wrote first: judge the move again on what they left.
                continue
            alias = changed.alias(move.alias_id)
            assert alias is not None
            return Moved(alias, revision)
        raise SelmError("BUS_UNAVAILABLE", f"{key} is being changed by others without pause")


def _key(tenant: str, adapter_id: str) -> str:
    return f"{tenant}.{adapter_id}"
