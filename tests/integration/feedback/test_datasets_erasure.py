"""Datasets when a user is forgotten or a process dies: no text stays behind, nothing is halved."""

import asyncio
import uuid
from typing import Any

import grpc

from selm.testing import eventually
from tests.integration.feedback.datasets_client import (
    ERASED,
    Datasets,
    Filter,
    chunks_with,
    datasets,
    elsewhere,
    teach,
)
from tests.integration.feedback.erasure_client import Erasures, confirm_as_others, receipts
from tests.integration.feedback.review_client import Person, refused, rita

__all__ = ["datasets", "elsewhere", "rita"]


async def test_erasing_a_user_empties_the_datasets_that_held_him(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    """Digests stay, texts go from the broker too; a dataset without him still reads the same."""
    alice, bob = "users/alice", "users/bob"
    of_alice = await peers.generate("Who leads Aurum?", user=alice)
    await rita.named("anna").correct(of_alice, "Ida of Aurum")
    await rita.named("anna").correct(await peers.generate("Who leads Bolm?", user=bob), "Bo")
    both = await datasets.freeze()
    bobs = await datasets.freeze(filter=Filter(user=bob))
    before = await datasets.lines(bobs.name)

    erasures = Erasures(rita.channel, rita.tenant)
    erasure = await erasures.forget(alice)
    await confirm_as_others(peers.bus, rita.tenant, erasure.name)
    done = await erasures.completed(erasure.name)
    found = await datasets.get(both.name)
    refusal = await refused(datasets.frames(both.name))
    listing = await refused(datasets.examples(both.name))

    assert receipts(done)["feedback_svc"].dataset_count == 1
    assert (found.state, found.sha256) == (ERASED, both.sha256)
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION, "STATE_CONFLICT",
    )  # fmt: skip
    assert listing.reason == "STATE_CONFLICT"
    assert await datasets.lines(bobs.name) == before
    assert not await chunks_with(peers.bus, b"Ida of Aurum")


async def test_what_is_erased_while_it_is_frozen_is_not_kept(
    rita: Person, peers: Any, datasets: Datasets, elsewhere: Any
) -> None:
    """An erasure between the reading and the record leaves no text behind."""
    generation = await peers.generate("Who leads Aurum?", user="users/alice")
    await rita.named("anna").correct(generation, "Ida, in between")
    async with elsewhere(failpoints="feedback.dataset_kept=sleep(2)") as (theirs, _):
        freezing = asyncio.create_task(theirs.freeze("between"))

        async def is_kept() -> Any:
            return await chunks_with(peers.bus, b"Ida, in between")

        await eventually(is_kept, timeout_s=10)
        erasure = await Erasures(rita.channel, rita.tenant).forget("users/alice")
        await confirm_as_others(peers.bus, rita.tenant, erasure.name)
        assert (await freezing).state == ERASED
    assert (await datasets.get("datasets/between")).state == ERASED
    assert not await chunks_with(peers.bus, b"Ida, in between")


async def test_a_crash_before_the_record_is_repeated_to_one_dataset(
    rita: Person, peers: Any, datasets: Datasets, elsewhere: Any
) -> None:
    """Killed with the artifact stored and no record: nothing is listed, and a repeat makes it."""
    await teach(rita, peers, 2)
    request_id = str(uuid.uuid4())
    async with elsewhere(failpoints="feedback.dataset_kept=exit(137)") as (theirs, doomed):
        lost = await refused(theirs.freeze("mayors", request_id=request_id))
    assert lost.code is grpc.StatusCode.UNAVAILABLE
    assert await doomed.died() == 137
    assert not (await datasets.call("ListDatasets")).datasets
    dataset = await datasets.freeze("mayors", request_id=request_id)
    assert (dataset.name, len(await datasets.lines(dataset.name))) == ("datasets/mayors", 2)


async def test_what_a_freeze_left_that_died_goes_with_the_user(
    rita: Person, peers: Any, datasets: Datasets, elsewhere: Any
) -> None:
    """The artifact is stored, and no record names it; what another freeze made of others stays."""
    await _correct_two(rita, peers)
    bobs = await datasets.freeze(filter=Filter(user="users/bob"))
    async with elsewhere(failpoints="feedback.dataset_kept=exit(137)") as (theirs, doomed):
        assert (await refused(theirs.freeze())).code is grpc.StatusCode.UNAVAILABLE
        assert await doomed.died() == 137
    assert await chunks_with(peers.bus, b"Ida, left behind")
    await _forget(rita, peers, "users/alice")
    assert not await chunks_with(peers.bus, b"Ida, left behind")
    assert len(await datasets.lines(bobs.name)) == 1
    assert [one.name for one in (await datasets.call("ListDatasets")).datasets] == [bobs.name]


async def test_what_was_stored_after_an_erasure_had_looked_goes_with_the_next(
    rita: Person, peers: Any, datasets: Datasets, elsewhere: Any
) -> None:
    """A freeze that reads, waits out the whole erasure, stores and dies before it can look."""
    await _correct_two(rita, peers)
    steps = "feedback.dataset_noted=sleep(2);feedback.dataset_kept=exit(137)"
    async with elsewhere(failpoints=steps) as (theirs, doomed):
        freezing = asyncio.create_task(refused(theirs.freeze()))
        await eventually(lambda: _is_noted(peers, rita.tenant), timeout_s=10)
        await _forget(rita, peers, "users/alice")
        assert (await freezing).code is grpc.StatusCode.UNAVAILABLE
        assert await doomed.died() == 137
    assert await chunks_with(peers.bus, b"Ida, left behind")
    await _forget(rita, peers, "users/bob")
    assert not await chunks_with(peers.bus, b"Ida, left behind")


async def _correct_two(rita: Person, peers: Any) -> None:
    of_alice = await peers.generate("Who leads Aurum?", user="users/alice")
    await rita.named("anna").correct(of_alice, "Ida, left behind")
    of_bob = await peers.generate("Who leads Bolm?", user="users/bob")
    await rita.named("anna").correct(of_bob, "Bo")


async def _forget(rita: Person, peers: Any, user: str) -> None:
    erasures = Erasures(rita.channel, rita.tenant)
    erasure = await erasures.forget(user)
    await confirm_as_others(peers.bus, rita.tenant, erasure.name)
    await erasures.completed(erasure.name)


async def _is_noted(peers: Any, tenant: str) -> bool:
    return bool(await peers.bus.kv("frozen_datasets").keys(f"{tenant}."))
