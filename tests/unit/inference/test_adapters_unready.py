"""What a request gets while an adapter cannot serve: the true reason, never silently the base."""

from pathlib import Path

import pytest

from inference_svc.revisions import AdapterReason, LoadState, Selector
from selm.errors import SelmError
from tests.unit.inference.support import ADAPTER, TENANT, revision_of, running_replica

DEFAULT = Selector()


@pytest.mark.parametrize("selector", [DEFAULT, Selector(adapter=ADAPTER)])
async def test_stable_that_cannot_serve_is_not_the_base(
    start_engine, pack_adapter, tmp_path: Path, selector: Selector
) -> None:
    """A replica that could not load what `stable` leads to says why, to unset selectors as well."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        revision = revision_of(pack_adapter(500), replica.store)
        (replica.store / revision.artifact_sha256).unlink()
        await replica.moved(revision)
        with pytest.raises(SelmError) as refused:
            await replica.adapters.acquire(TENANT, selector)

    assert refused.value.reason == "ARTIFACT_UNAVAILABLE"


async def test_stable_that_is_loading_is_waited_for(
    start_engine, pack_adapter, tmp_path: Path
) -> None:
    """A request that comes with the alias move gets the revision, not the base."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        revision = revision_of(pack_adapter(500), replica.store)
        replica.move(revision)
        held = await replica.adapters.acquire(TENANT, DEFAULT)

    assert held.selection.revision == revision


async def test_unread_registry_denies_no_name(start_engine, tmp_path: Path) -> None:
    """Until the registry was read a named alias is UNAVAILABLE; an unset selector is the base."""
    async with (
        start_engine() as engine,
        running_replica(engine, tmp_path, is_registry_read=False) as replica,
    ):
        with pytest.raises(SelmError) as before:
            await replica.adapters.acquire(TENANT, Selector(adapter=ADAPTER))
        unset = await replica.adapters.acquire(TENANT, DEFAULT)
        replica.adapters.registry_read()
        with pytest.raises(SelmError) as after:
            await replica.adapters.acquire(TENANT, Selector(adapter=ADAPTER))

    assert (before.value.reason, after.value.reason) == ("BUS_UNAVAILABLE", "ADAPTER_NOT_FOUND")
    assert before.value.metadata == {"stream": "ADAPTERS"}
    assert unset.selection.reason is AdapterReason.NOTHING_PROMOTED


async def test_full_slots_are_not_tried_again_with_every_request(
    start_engine, pack_adapter, tmp_path: Path
) -> None:
    """While no slot is free nothing is fetched; the error does not grow with its repetitions."""
    async with (
        start_engine(adapter_slots=2) as engine,
        running_replica(engine, tmp_path) as replica,
    ):
        first, second, third = (
            revision_of(pack_adapter(t), replica.store) for t in (500, 600, 700)
        )
        replica.registry.revisions += [first, second, third]
        for revision in (first, second):
            await replica.adapters.acquire(TENANT, Selector(sha256=revision.sha256))
        refusals = []
        for _ in range(3):
            with pytest.raises(SelmError) as refused:
                await replica.adapters.acquire(TENANT, Selector(sha256=third.sha256))
            # Gone after the first time: another fetch would say ARTIFACT_UNAVAILABLE.
            (replica.store / third.artifact_sha256).unlink(missing_ok=True)
            refusals.append((refused.value.reason, len(refused.traceback)))
        view = next(v for v in replica.adapters.held(TENANT) if v.revision == third.name)

    assert {reason for reason, _ in refusals} == {"ADAPTER_SLOTS_EXHAUSTED"}
    assert refusals[1] == refusals[2]
    assert view.state is LoadState.FAILED
