"""Calls about datasets: freeze, look, read, erase. Fulfils curating.Datasets, forgetting.Datasets.

A dataset is durable before it is answered, and reads the same for ever or is ERASED.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from feedback_svc import core, learning
from feedback_svc.curating import (
    Count,
    Dataset,
    DatasetDraft,
    DatasetState,
    Example,
    IndexedExample,
)
from feedback_svc.datasets.freezing import FreezeSpec, Frozen, freeze
from feedback_svc.datasets.source import FeedbackSource, Told
from feedback_svc.datasets.store import DatasetStore
from feedback_svc.stream.ledger import Ledger
from feedback_svc.training.rules import author_share
from selm import names
from selm.errors import SelmError, not_found, unavailable
from selm.testing import failpoint

# The artifact cannot be read any more: nobody can say that it held nothing of what must go.
_DAMAGED = frozenset({"ARTIFACT_UNAVAILABLE", "DIGEST_MISMATCH"})


class DatasetDesk:
    """The datasets of all tenants, as callers may handle them."""

    def __init__(
        self,
        source: FeedbackSource,
        store: DatasetStore,
        ledger: Ledger,
        policies: learning.Policies,
        trust_of: Callable[[str, str], float],
    ) -> None:
        self._source = source
        self._store = store
        self._ledger = ledger
        self._policies = policies
        self._trust_of = trust_of

    async def create(
        self, tenant: str, draft: DatasetDraft, key: core.RequestKey | None
    ) -> Dataset:
        """DATASET_EMPTY if nothing may be learned from, RESOURCE_EXISTS if the id is taken."""
        entry = await self._ledger.find(tenant, key) if key else None
        name = entry.resource if entry else names.dataset_name(_dataset_id(tenant, draft, key))
        known = await self._store.find(tenant, name)
        if known is not None:
            return await self._settled(tenant, _made_under(known, key), key)
        if entry is not None and entry.is_done:
            raise not_found(name)
        if key is not None and entry is None:
            name = (await self._ledger.intend(tenant, key, name)).resource
        frozen = await self._freeze(tenant, name, draft)
        dataset = replace(frozen, request_id=key.request_id if key else "")
        failpoint("feedback.dataset_kept")
        try:
            await self._store.create(dataset)
        except SelmError as error:
            if error.reason != "RESOURCE_EXISTS":
                raise
            dataset = _made_under(await self.get(tenant, name), key)
        return await self._settled(tenant, dataset, key)

    async def get(self, tenant: str, name: str) -> Dataset:
        found = await self._store.find(tenant, name)
        if found is None:
            raise not_found(name)
        return found

    async def list(
        self, tenant: str, adapter: str, before: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Dataset]:
        found = await self._store.of_tenant(tenant)
        newest = sorted(found, key=_place, reverse=True)
        fits = (one for one in newest if adapter in ("", one.adapter))
        return [one for one in fits if before is None or _place(one) < before][:limit]

    async def examples(
        self, tenant: str, name: str, split: int, start: int
    ) -> AsyncGenerator[IndexedExample, None]:
        dataset = await self.get(tenant, name)
        if dataset.state is DatasetState.ERASED:
            raise _erased(name)
        try:
            async with aclosing(self._store.examples(dataset, start)) as examples:
                async for one in examples:
                    if split in (0, one.example.split):
                        yield one
        except SelmError as error:
            # It may have been erased since it was looked up.
            if error.reason == "ARTIFACT_UNAVAILABLE":
                await self._require_readable(tenant, name)
            raise

    async def erase(self, tenant: str, event_names: Sequence[str]) -> int:
        """Empty every dataset that holds one of these events; how many were."""
        gone, number = frozenset(event_names), 0
        for dataset in await self._store.of_tenant(tenant) if gone else []:
            if dataset.state is DatasetState.READY and not await self._holds(dataset, gone):
                continue
            # Again where it is marked already: a crash may have left the text behind the mark.
            await self._store.erase(dataset)
            number += dataset.state is DatasetState.READY
        if gone:
            await self._drop_unrecorded(tenant)
        return number

    async def _drop_unrecorded(self, tenant: str) -> None:
        """What freezes left that died: also what was stored after an earlier erasure had looked."""
        gone = await self._source.erased(tenant)
        for dataset in await self._store.unrecorded(tenant):
            if await self._holds(dataset, gone):
                await self._store.drop(dataset)

    async def _freeze(self, tenant: str, name: str, draft: DatasetDraft) -> Dataset:
        events = await self._source.read(tenant, draft.wanted)
        authors = {record.author for record, _ in events}
        policy = self._policies.policy_of(tenant, draft.adapter)
        spec = FreezeSpec(
            wanted=draft.wanted,
            max_author_share=draft.max_author_share or author_share(policy, authors),
            holdout_share=draft.holdout_share,
            seed=draft.seed,
        )
        trust = {author: self._trust_of(tenant, author) for author in authors}
        frozen = await asyncio.to_thread(freeze, events, spec, trust.__getitem__)
        if not frozen.examples:
            raise _empty(name, frozen)
        return await self._kept(tenant, name, draft, frozen, events)

    async def _kept(
        self, tenant: str, name: str, draft: DatasetDraft, frozen: Frozen, events: Iterable[Told]
    ) -> Dataset:
        indexed = (IndexedExample(index, one) for index, one in enumerate(frozen.examples))
        dataset = Dataset(
            tenant=tenant,
            name=name,
            adapter=draft.adapter,
            spec=draft.spec,
            state=DatasetState.READY,
            last_sequence=max(record.sequence for record, _ in events),
            sha256=frozen.sha256,
            counts=_counts(frozen.examples),
            exclusions=frozen.exclusions,
            labels=draft.labels,
            create_time=datetime.now(UTC),
            uri="",
            artifact_sha256="",
            size_bytes=0,
        )
        return await self._store.keep(dataset, indexed)

    async def _settled(self, tenant: str, dataset: Dataset, key: core.RequestKey | None) -> Dataset:
        """The dataset once it is sure that no erasure went past it while it was frozen."""
        if dataset.state is DatasetState.READY and await self._holds(
            dataset, await self._source.erased(tenant)
        ):
            await self._store.erase(dataset)
        if key is not None:
            await self._ledger.complete(tenant, key, dataset.name)
        return await self.get(tenant, dataset.name)

    async def _holds(self, dataset: Dataset, events: frozenset[str] | set[str]) -> bool:
        if not events:
            return False
        try:
            async with aclosing(self._store.examples(dataset)) as examples:
                async for one in examples:
                    if one.example.feedback_event in events:
                        return True
        except SelmError as error:
            if error.reason not in _DAMAGED:
                raise
            return True
        return False

    async def _require_readable(self, tenant: str, name: str) -> None:
        dataset = await self.get(tenant, name)
        if dataset.state is DatasetState.ERASED:
            raise _erased(name)
        raise unavailable("ARTIFACT_UNAVAILABLE", "the examples cannot be read now", dataset=name)


def _place(dataset: Dataset) -> tuple[datetime, str]:
    return dataset.create_time, dataset.name


def _counts(examples: Iterable[Example]) -> tuple[Count, ...]:
    numbers = Counter((example.split, example.kind) for example in examples)
    return tuple(Count(split, kind, numbers[split, kind]) for split, kind in sorted(numbers))


def _dataset_id(tenant: str, draft: DatasetDraft, key: core.RequestKey | None) -> str:
    """The id asked for; else one that a repeat after a crash chooses again."""
    if draft.dataset_id or key is None:
        return draft.dataset_id or names.new_id()
    return hashlib.sha256(f"{tenant}\0dataset\0{key.request_id}".encode()).hexdigest()[:32]


def _made_under(dataset: Dataset, key: core.RequestKey | None) -> Dataset:
    """The dataset, if an earlier attempt under this request_id made it; else its id is taken."""
    if key is None or dataset.request_id != key.request_id:
        raise _exists(dataset.name)
    return dataset


def _exists(name: str) -> SelmError:
    metadata = {"resource_name": name}
    return SelmError("RESOURCE_EXISTS", f"{name} exists", metadata=metadata, resource=name)


def _empty(name: str, frozen: Frozen) -> SelmError:
    number = sum(frozen.exclusions.values())
    reasons = ", ".join(f"{reason} {count}" for reason, count in frozen.exclusions.items())
    message = f"nothing may be learned from; left out: {reasons or 'nothing'}"
    metadata = {"dataset": name, "excluded": str(number)}
    return SelmError("DATASET_EMPTY", message, metadata=metadata)


def _erased(name: str) -> SelmError:
    return SelmError(
        "STATE_CONFLICT",
        f"{name} held what was erased, and is empty",
        metadata={"resource_name": name, "state": "ERASED", "action": "read"},
        resource=name,
    )
