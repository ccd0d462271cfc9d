"""Alias moves over the real bus: hot swap under load, refusals, restarts."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from selm.api.adapter.v1 import adapter_pb2, rollout_pb2
from selm.api.error.v1 import error_reason_pb2
from selm.api.inference.v1 import (
    generation_pb2,
    input_pb2,
    model_pb2,
    replica_service_pb2,
)
from selm.bus import Bus
from selm.testing import eventually
from tests.integration.inference.support import (
    Registry,
    Service,
    no_memory,
    rest,
    sampling,
    wire_revision,
)
from tests.model_fixtures import PackedAdapter, pack_constant_adapter

SERVING = rollout_pb2.ReplicaAcknowledgement.STATE_SERVING
REFUSED = rollout_pb2.ReplicaAcknowledgement.STATE_REFUSED


@pytest.fixture
def pack_adapter(tiny_model: Path, tmp_path: Path) -> Callable[[int], PackedAdapter]:
    return lambda token: pack_constant_adapter(tiny_model, token, tmp_path / "packed")


async def acknowledged(registry: Registry, service: Service, revision: str):
    instance = service.shared.instance
    return await eventually(lambda: registry.acknowledgement(instance, revision))


async def test_swap_under_16_streams_over_grpc(start_service, nats_url: str, pack_adapter) -> None:
    """An alias moves while 16 streams run: none ends early, none mixes, the next one is new."""
    async with start_service(nats_url) as service, Bus.open(service.shared, "test") as bus:
        await bus.ready()
        registry = Registry(bus, service.tenant)
        old, new = (wire_revision(pack_adapter(t), service.artifacts) for t in (500, 600))
        await registry.move(old)
        first = await acknowledged(registry, service, old.name)
        options = {"sampling_params": sampling(80), "memory_options": no_memory()}

        async def stream() -> tuple[str, str, int]:
            frames = [frame async for frame in service.stream(**options)]
            text = "".join(frame.delta.text for frame in frames)
            finished = frames[-1].finished
            revision = frames[0].started.resolution.adapter_revision
            return revision, text, finished.usage.output_tokens

        calls = [service.stream(**options) for _ in range(16)]
        started = [(await call.read()).started for call in calls]
        await registry.move(new)
        second = await acknowledged(registry, service, new.name)

        async def ending(call) -> tuple[str, int]:
            frames = await rest(call)
            text = "".join(frame.delta.text for frame in frames)
            return text, frames[-1].finished.usage.output_tokens

        finished = await asyncio.gather(*map(ending, calls))
        revision, text, _ = await stream()
        listed = await service.replica.ListLoadedAdapters(
            replica_service_pb2.ListLoadedAdaptersRequest(), metadata=service.metadata
        )

    assert (first.state, second.state) == (SERVING, SERVING)
    assert {s.resolution.adapter_revision for s in started} == {old.name}
    assert {s.resolution.adapter_reason for s in started} == {generation_pb2.ADAPTER_REASON_ALWAYS}
    assert {num_tokens for _, num_tokens in finished} == {80}
    assert len({text for text, _ in finished}) == 1
    assert revision == new.name
    assert text != finished[0][0]
    assert [a.active_generations for a in listed.loaded_adapters] == [0, 0]


async def test_bad_revision_is_refused_and_the_old_one_serves(
    start_service, nats_url: str, pack_adapter
) -> None:
    """Another base model's adapter: REFUSED with the reason; the alias answers as before."""
    async with start_service(nats_url) as service, Bus.open(service.shared, "test") as bus:
        await bus.ready()
        registry = Registry(bus, service.tenant)
        good, bad = (wire_revision(pack_adapter(t), service.artifacts) for t in (500, 600))
        bad.manifest.base_sha256 = "0" * 64
        await registry.move(good)
        await acknowledged(registry, service, good.name)
        before = await service.generate(sampling_params=sampling(5), memory_options=no_memory())
        await registry.move(bad)
        refused = await acknowledged(registry, service, bad.name)
        after = await service.generate(sampling_params=sampling(5), memory_options=no_memory())
        listed = await service.replica.ListLoadedAdapters(
            replica_service_pb2.ListLoadedAdaptersRequest(), metadata=service.metadata
        )

    assert refused.state == REFUSED
    assert refused.failure.reason == error_reason_pb2.ERROR_REASON_ADAPTER_INCOMPATIBLE
    assert after.candidates[0].text == before.candidates[0].text
    assert after.resolution.adapter_revision == good.name
    states = {a.adapter_revision: a.state for a in listed.loaded_adapters}
    assert states == {
        good.name: model_pb2.LoadedAdapter.STATE_ACTIVE,
        bad.name: model_pb2.LoadedAdapter.STATE_FAILED,
    }


async def test_restarted_replica_serves_the_alias_before_it_is_ready(
    start_service, nats_url: str, pack_adapter
) -> None:
    """What an alias points to is replayed at start, so the first answer is already right."""
    async with start_service(nats_url) as service, Bus.open(service.shared, "test") as bus:
        await bus.ready()
        registry = Registry(bus, service.tenant)
        revision = wire_revision(pack_adapter(500), service.artifacts)
        await registry.move(revision)
        await acknowledged(registry, service, revision.name)
        tenant = service.tenant
    async with start_service(nats_url, instance="replica-3") as again:
        await eventually(again.is_serving)
        again.metadata = (("x-selm-tenant", tenant),)
        generation = await again.generate(sampling_params=sampling(3), memory_options=no_memory())

    assert generation.resolution.adapter_revision == revision.name


async def test_scoped_alias_is_the_base_out_of_scope(
    start_service, nats_url: str, pack_adapter
) -> None:
    """Mode SCOPED without memory follows the setting; the reply says why."""
    async with (
        start_service(nats_url, scope_unknown="BASE") as service,
        Bus.open(service.shared, "test") as bus,
    ):
        await bus.ready()
        registry = Registry(bus, service.tenant)
        revision = wire_revision(pack_adapter(500), service.artifacts)
        await registry.move(revision, adapter_pb2.SCOPE_MODE_SCOPED)
        await acknowledged(registry, service, revision.name)
        scoped = await service.generate(sampling_params=sampling(3))
        always = await service.generate(
            sampling_params=sampling(3),
            adapter=input_pb2.AdapterSelector(
                adapter_revision="adapters/default/revisions/stable",
                scope_mode=adapter_pb2.SCOPE_MODE_ALWAYS,
            ),
        )

    assert not scoped.resolution.adapter_applied
    assert scoped.resolution.adapter_reason == generation_pb2.ADAPTER_REASON_SCOPE_UNKNOWN
    assert always.resolution.adapter_applied
    assert scoped.candidates[0].text != always.candidates[0].text


async def test_pinned_revision_is_found_in_the_registry(
    start_service, nats_url: str, pack_adapter
) -> None:
    """By name and by digest, without any alias."""
    async with start_service(nats_url) as service, Bus.open(service.shared, "test") as bus:
        await bus.ready()
        revision = wire_revision(pack_adapter(500), service.artifacts)
        revision_id = revision.name.rsplit("/", 1)[-1]
        bucket = bus.kv("revisions")
        await bucket.put(f"{service.tenant}.default.{revision_id}", revision.SerializeToString())
        await bucket.put(f"{service.tenant}.sha256.{revision.sha256}", revision.name.encode())
        pinned = [
            await service.generate(
                sampling_params=sampling(3), memory_options=no_memory(), adapter=selector
            )
            for selector in (
                input_pb2.AdapterSelector(sha256=revision.sha256),
                input_pb2.AdapterSelector(adapter_revision=revision.name),
            )
        ]

    assert [g.resolution.sha256 for g in pinned] == [revision.sha256] * 2
    assert all(g.resolution.adapter_applied for g in pinned)
