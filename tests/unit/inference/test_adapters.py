"""Aliases, leases and slots: swaps harm no stream, bad revisions harm nobody."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from inference_svc.engine.room import EngineLimits
from inference_svc.revisions import AdapterReason, LoadState, ScopeMode, Selector
from selm.errors import SelmError
from tests.unit.inference.support import ADAPTER, TENANT, read, revision_of, running_replica, tokens

DEFAULT = Selector()


async def test_nothing_promoted_is_the_base_model(start_engine, tmp_path: Path) -> None:
    """Without a stable alias an unset selector means the base model, and says why."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        held = await replica.adapters.acquire(TENANT, DEFAULT)

    assert (held.selection.revision, held.slot) == (None, 0)
    assert held.selection.reason is AdapterReason.NOTHING_PROMOTED


async def test_alias_serves_after_verification_and_probe(
    start_engine, pack_adapter, tmp_path: Path
) -> None:
    """Once told SERVING, requests through the alias get the revision and its lessons."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        revision = revision_of(pack_adapter(500), replica.store)
        await replica.moved(revision)
        held = await replica.adapters.acquire(TENANT, DEFAULT)
        run = engine.submit(engine.prompt((), raw="hello"), tokens(4), held.slot)
        await read(run)

    assert replica.outcomes == [(revision.name, "SERVING")]
    assert held.selection.revision == revision
    assert held.selection.scope_mode is ScopeMode.SCOPED
    assert held.selection.lessons == {"lessons/one"}
    assert run.ending.tokens == (500,) * 4


@pytest.mark.parametrize(
    "selector",
    [
        Selector(adapter="adapters/none"),
        Selector(adapter=ADAPTER, alias_id="candidate"),
        Selector(adapter=ADAPTER, revision=f"{ADAPTER}/revisions/r0123456789abcdef"),
        Selector(sha256="0" * 64),
    ],
)
async def test_unknown_names_are_never_the_base(
    start_engine, pack_adapter, tmp_path: Path, selector: Selector
) -> None:
    """Unknown adapter, alias, revision or digest: ADAPTER_NOT_FOUND."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        await replica.moved(revision_of(pack_adapter(500), replica.store))
        with pytest.raises(SelmError) as refused:
            await replica.adapters.acquire(TENANT, selector)

    assert refused.value.reason == "ADAPTER_NOT_FOUND"


async def test_another_tenant_finds_nothing(start_engine, pack_adapter, tmp_path: Path) -> None:
    """A loaded revision of one tenant does not exist for the next."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        revision = revision_of(pack_adapter(500), replica.store)
        await replica.moved(revision)
        with pytest.raises(SelmError) as refused:
            await replica.adapters.acquire("other", Selector(sha256=revision.sha256))
        unset = await replica.adapters.acquire("other", DEFAULT)

    assert refused.value.reason == "ADAPTER_NOT_FOUND"
    assert unset.selection.revision is None
    assert replica.adapters.held("other") == []


async def test_swap_under_16_streams_ends_none_and_mixes_none(
    start_engine, pack_adapter, tmp_path: Path
) -> None:
    """Running streams keep the revision they began with; new ones get the new one."""
    limits = EngineLimits(max_running=16, num_threads=1)
    async with start_engine(limits) as engine, running_replica(engine, tmp_path) as replica:
        old, new = (revision_of(pack_adapter(t), replica.store) for t in (500, 600))
        await replica.moved(old)
        prompt = engine.prompt((), raw="hello")

        async def stream() -> tuple[int, ...]:
            held = await replica.adapters.acquire(TENANT, DEFAULT)
            try:
                run = engine.submit(prompt, tokens(60), held.slot)
                await read(run)
                return run.ending.tokens
            finally:
                held.release()

        early = [asyncio.create_task(stream()) for _ in range(16)]
        while engine.num_running < 16:
            await engine.between_steps(lambda: None)
        await replica.moved(new)
        running_at_swap = engine.num_running
        late = [asyncio.create_task(stream()) for _ in range(4)]
        before, after = await asyncio.gather(*early), await asyncio.gather(*late)

    assert running_at_swap == 16
    assert set(before) == {(500,) * 60}
    assert set(after) == {(600,) * 60}


async def test_bad_revision_leaves_the_old_one_serving(
    start_engine, pack_adapter, tmp_path: Path
) -> None:
    """Refused with a reason, listed as FAILED, and the alias answers as before."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        good = revision_of(pack_adapter(500), replica.store)
        bad = replace(revision_of(pack_adapter(600), replica.store), base_sha256="0" * 64)
        await replica.moved(good)
        await replica.moved(bad)
        held = await replica.adapters.acquire(TENANT, DEFAULT)
        states = {view.revision: view for view in replica.adapters.held(TENANT)}

    assert replica.outcomes[-1] == (bad.name, "ADAPTER_INCOMPATIBLE")
    assert held.selection.revision == good
    assert states[bad.name].state is LoadState.FAILED
    assert states[bad.name].last_failure.reason == "ADAPTER_INCOMPATIBLE"
    assert states[good.name].alias_ids == ("stable",)


@pytest.mark.parametrize("damage", ["missing", "altered"])
async def test_unreachable_or_altered_artifact_is_refused(
    start_engine, pack_adapter, tmp_path: Path, damage: str
) -> None:
    """No bytes: ARTIFACT_UNAVAILABLE; other bytes: ADAPTER_REJECTED for their digest."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        revision = revision_of(pack_adapter(500), replica.store)
        stored = replica.store / revision.artifact_sha256
        if damage == "missing":
            stored.unlink()
        else:
            stored.write_bytes(stored.read_bytes()[:-1] + b"x")
        await replica.moved(revision)

    reasons = {"missing": "ARTIFACT_UNAVAILABLE", "altered": "ADAPTER_REJECTED"}
    assert replica.outcomes == [(revision.name, reasons[damage])]


async def test_failed_load_is_tried_again_and_serves(
    start_engine, pack_adapter, tmp_path: Path
) -> None:
    """Once the artifact is there, the waiting alias moves by itself."""
    async with start_engine() as engine, running_replica(engine, tmp_path, 0.01) as replica:
        packed = pack_adapter(500)
        revision = revision_of(packed, replica.store)
        stored = replica.store / revision.artifact_sha256
        stored.rename(tmp_path / "away")
        await replica.moved(revision)
        (tmp_path / "away").rename(stored)
        replica.told.clear()
        await replica.told.wait()

    assert [reason for _, reason in replica.outcomes] == ["ARTIFACT_UNAVAILABLE", "SERVING"]


async def test_fresh_failure_is_repeated_not_reloaded(
    start_engine, pack_adapter, tmp_path: Path
) -> None:
    """Within the back-off a request for a broken revision fails at once with the same reason."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        packed = pack_adapter(500)
        revision = revision_of(packed, replica.store)
        replica.registry.revisions.append(revision)
        stored = replica.store / revision.artifact_sha256
        stored.rename(tmp_path / "away")
        selector = Selector(sha256=revision.sha256)
        with pytest.raises(SelmError) as first:
            await replica.adapters.acquire(TENANT, selector)
        (tmp_path / "away").rename(stored)
        with pytest.raises(SelmError) as second:
            await replica.adapters.acquire(TENANT, selector)

    assert first.value is second.value
    assert first.value.reason == "ARTIFACT_UNAVAILABLE"


async def test_older_epoch_is_ignored(start_engine, pack_adapter, tmp_path: Path) -> None:
    """A late or repeated announcement does not turn an alias back."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        old, new = (revision_of(pack_adapter(t), replica.store) for t in (500, 600))
        await replica.moved(new)
        replica.move(old, epoch=1)
        await replica.adapters.settled()
        held = await replica.adapters.acquire(TENANT, DEFAULT)

    assert held.selection.revision == new


async def test_pinned_revision_loads_on_demand_once(
    start_engine, pack_adapter, tmp_path: Path
) -> None:
    """Many requests for a cold revision share one load; its mode is ALWAYS."""
    async with start_engine() as engine, running_replica(engine, tmp_path) as replica:
        revision = revision_of(pack_adapter(500), replica.store)
        replica.registry.revisions.append(revision)
        selector = Selector(adapter=ADAPTER, revision=revision.name)
        held = await asyncio.gather(*(replica.adapters.acquire(TENANT, selector) for _ in range(5)))
        view = replica.adapters.held(TENANT)[0]

    assert {h.slot for h in held} == {1}
    assert held[0].selection.scope_mode is ScopeMode.ALWAYS
    assert (view.state, view.num_leases, view.slot) == (LoadState.ACTIVE, 5, 0)


async def test_slots_are_freed_only_without_lease_and_alias(
    start_engine, pack_adapter, tmp_path: Path
) -> None:
    """The least recently used idle revision leaves; leased and aliased ones never do."""
    async with (
        start_engine(adapter_slots=2) as engine,
        running_replica(engine, tmp_path) as replica,
    ):
        aliased, first, second = (
            revision_of(pack_adapter(t), replica.store) for t in (500, 600, 700)
        )
        replica.registry.revisions += [first, second]
        await replica.moved(aliased)
        held = await replica.adapters.acquire(TENANT, Selector(sha256=first.sha256))
        with pytest.raises(SelmError) as refused:
            await replica.adapters.acquire(TENANT, Selector(sha256=second.sha256))
        held.release()
        held.release()
        await replica.adapters.acquire(TENANT, Selector(sha256=second.sha256))
        names = {view.revision for view in replica.adapters.held(TENANT)}

    assert refused.value.reason == "ADAPTER_SLOTS_EXHAUSTED"
    assert names == {aliased.name, second.name}
