"""The adapters this replica holds: follows aliases, resolves selectors, hands out leases.

Runs on the event loop. A revision never changes in place; an alias flips only to a revision that
has been verified and probed here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from inference_svc import metrics
from inference_svc.engine.adapter_loader import AdapterLoader
from inference_svc.engine.lora import NO_ADAPTER
from inference_svc.engine.slots import Key, LoadedRevision, SlotLease, key_of
from inference_svc.ports import RevisionSource
from inference_svc.revisions import (
    DEFAULT_ALIAS,
    AdapterReason,
    AliasMove,
    HeldAdapter,
    LoadState,
    Revision,
    ScopeMode,
    Selection,
    Selector,
)
from selm import streams
from selm.errors import SelmError, adapter_not_found, unavailable
from selm.names import DEFAULT_ADAPTER

log = structlog.get_logger()

AliasKey = tuple[str, str, str]
# Told once per move: it serves (None) or was refused, and how long that took.
Outcome = Callable[[AliasMove, SelmError | None, float], Awaitable[None]]


class HeldSelection:
    """What a request selected, with its lease; release it exactly once, more does no harm."""

    def __init__(self, selection: Selection, lease: SlotLease | None = None) -> None:
        self.selection = selection
        self._lease = lease

    @property
    def slot(self) -> int:
        return self._lease.slot if self._lease else NO_ADAPTER

    def release(self) -> None:
        if self._lease:
            self._lease.release()


class AdapterManager:
    """All adapters of one replica. Open it with `async with`; leaving ends its background work."""

    def __init__(
        self,
        loader: AdapterLoader,
        registry: RevisionSource,
        on_outcome: Outcome,
    ) -> None:
        self._loader = loader
        self._registry = registry
        self._on_outcome = on_outcome
        loader.aliased = self._aliased
        # What serves now, and the newest move known; they differ while a load runs or fails.
        self._serving: dict[AliasKey, AliasMove] = {}
        self._wanted: dict[AliasKey, AliasMove] = {}
        self._followers: dict[AliasKey, asyncio.Task[None]] = {}
        self._settled: dict[AliasKey, asyncio.Event] = {}
        # Until then an alias that is missing here may well exist.
        self._is_registry_read = False

    async def __aenter__(self) -> "AdapterManager":
        self._loader.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        followers = list(self._followers.values())
        for task in followers:
            task.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        await self._loader.close()

    # Aliases.

    def follow(self, move: AliasMove) -> None:
        """An alias moved. Loads in the background, then flips; an older epoch is ignored."""
        alias = (move.tenant, move.adapter, move.alias_id)
        known = self._wanted.get(alias)
        if known is not None and known.epoch >= move.epoch:
            return
        self._wanted[alias] = move
        if superseded := self._settled.get(alias):
            superseded.set()
        self._settled[alias] = asyncio.Event()
        # A load in progress for the older target may end; its result stays as a cached revision.
        if follower := self._followers.pop(alias, None):
            follower.cancel()
        self._followers[alias] = asyncio.create_task(self._follow(alias, move))

    def registry_read(self) -> None:
        """Every alias that exists now was followed: from here on a missing one does not exist."""
        self._is_registry_read = True

    async def settled(self) -> None:
        """Returns once every move known now has served or failed for the first time."""
        while waiting := [event for event in self._settled.values() if not event.is_set()]:
            await asyncio.gather(*(event.wait() for event in waiting))

    async def _follow(self, alias: AliasKey, move: AliasMove) -> None:
        start = time.monotonic()
        is_told = False
        while True:
            try:
                loaded = await self._loader.ensure_loaded(move.revision)
            except SelmError as error:
                log.warning("adapter_refused", revision=move.revision.name, reason=error.reason)
                self._settled[alias].set()
                if not is_told:
                    await self._tell(move, error, start)
                    is_told = True
                wait_s = self._loader.retry_at(move.revision) - time.monotonic()
                await asyncio.sleep(max(0.0, wait_s))
                continue
            # NOTE: no await between the check and the flip: a revision in the table cannot go.
            if self._loader.is_loaded(loaded):
                break
        self._serving[alias] = move
        metrics.SWAPS.inc()
        log.info("adapter_serves", revision=move.revision.name, alias=move.alias_id)
        self._settled[alias].set()
        await self._tell(move, None, start)

    async def _tell(self, move: AliasMove, error: SelmError | None, start: float) -> None:
        await self._on_outcome(move, error, time.monotonic() - start)

    def _aliased(self) -> set[Key]:
        return {key_of(move.revision) for move in self._serving.values()}

    # Requests.

    async def acquire(self, tenant: str, selector: Selector) -> HeldSelection:
        """Resolves a selector once and leases its revision; ADAPTER_NOT_FOUND for unknown names."""
        if selector.is_base:
            return HeldSelection(Selection(None, reason=AdapterReason.BASE_REQUESTED))
        if selector.is_default:
            default = (tenant, DEFAULT_ADAPTER, DEFAULT_ALIAS)
            if default not in self._wanted:
                # Without a registry as well: a broker that is away must not stop every answer.
                return HeldSelection(Selection(None, reason=AdapterReason.NOTHING_PROMOTED))
            return await self._hold_alias(await self._move(default), selector)
        if selector.sha256:
            return await self._hold(await self._by_digest(tenant, selector.sha256), selector)
        if selector.revision:
            return await self._hold(await self._by_name(tenant, selector.revision), selector)
        alias = (tenant, selector.adapter, selector.alias_id or DEFAULT_ALIAS)
        return await self._hold_alias(await self._move(alias), selector)

    async def _move(self, alias: AliasKey) -> AliasMove:
        """What an alias serves; one that never served yet is waited for, or fails as its load."""
        if alias not in self._wanted:
            name = f"{alias[1]}/revisions/{alias[2]}"
            if not self._is_registry_read:
                raise unavailable(
                    "BUS_UNAVAILABLE", f"{name} is not known yet", stream=streams.ADAPTERS.name
                )
            raise adapter_not_found(name)
        if alias not in self._serving:
            await self._loader.ensure_loaded(self._wanted[alias].revision)
        return self._serving.get(alias) or self._wanted[alias]

    async def _hold_alias(self, move: AliasMove, selector: Selector) -> HeldSelection:
        mode = selector.scope_mode or move.scope_mode
        return await self._lease(move.revision, mode, move.alias_id)

    async def _hold(self, revision: Revision, selector: Selector) -> HeldSelection:
        return await self._lease(revision, selector.scope_mode or ScopeMode.ALWAYS, "")

    async def _lease(self, revision: Revision, mode: ScopeMode, alias_id: str) -> HeldSelection:
        loaded = await self._loader.ensure_loaded(revision)
        while not self._loader.is_loaded(loaded):
            # Its slot went to another revision before this caller's turn came.
            loaded = await self._loader.ensure_loaded(revision)
        selection = Selection(revision, revision.adapter, alias_id, mode, None, loaded.lessons)
        return HeldSelection(selection, loaded.lease())

    async def _by_name(self, tenant: str, name: str) -> Revision:
        if loaded := self._loader.table.get((tenant, name)):
            return loaded.revision
        revision = await self._registry.by_name(tenant, name)
        if revision is None:
            raise adapter_not_found(name)
        return revision

    async def _by_digest(self, tenant: str, sha256: str) -> Revision:
        for loaded in self._loader.table.all():
            if (loaded.revision.tenant, loaded.revision.sha256) == (tenant, sha256):
                return loaded.revision
        revision = await self._registry.by_digest(tenant, sha256)
        if revision is None:
            raise adapter_not_found(sha256)
        return revision

    # Observation.

    def held(self, tenant: str) -> Sequence[HeldAdapter]:
        """Everything loaded, loading or failed for a tenant, last used first."""
        loaded = sorted(self._loader.table.all(), key=lambda item: item.last_use, reverse=True)
        views = [self._view(item) for item in loaded if item.revision.tenant == tenant]
        known = {view.revision for view in views}
        for key in self._loader.loads:
            if key[0] == tenant and key[1] not in known:
                views.append(HeldAdapter(tenant, key[1], "", LoadState.LOADING))
                known.add(key[1])
        for key, failure in self._loader.failures.items():
            if key[0] == tenant and key[1] not in known:
                views.append(
                    HeldAdapter(
                        tenant,
                        key[1],
                        failure.revision.sha256,
                        LoadState.FAILED,
                        last_failure=failure.error,
                        failure_time=failure.time,
                        retry_time=failure.retry_time,
                    )
                )
        return views

    def _view(self, item: LoadedRevision) -> HeldAdapter:
        key = key_of(item.revision)
        return HeldAdapter(
            tenant=item.revision.tenant,
            revision=item.revision.name,
            sha256=item.revision.sha256,
            state=LoadState.ACTIVE,
            alias_ids=tuple(a[2] for a, m in self._serving.items() if key_of(m.revision) == key),
            slot=item.slot - 1,
            size_bytes=item.size_bytes,
            num_leases=item.num_leases,
            load_duration_s=item.load_duration_s,
            load_time=item.load_time,
            last_use_time=item.last_use_time,
        )
