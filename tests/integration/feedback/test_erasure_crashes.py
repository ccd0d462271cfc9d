"""kill -9 of feedback_svc at every step of an erasure: it ends with the same counts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from selm import streams
from selm.bus import Bus
from selm.erasures import TaintedRevision
from selm.nats_server import NatsServer
from selm.testing import eventually
from tests.integration.feedback.erasure_client import (
    COMPLETED,
    Erasures,
    confirm_as_others,
    receipts,
    stored,
)

ALICE, BOB = "users/alice", "users/bob"
TAINTED = TaintedRevision(
    "adapters/default/revisions/r0123456789abcdef", "0" * 64, 1, ("adapters/default/aliases/a",)
)

# Before the order is on disk the caller is told so; after it nothing can stop the erasure.
ASKING = ("feedback.erasure_settled", "feedback.erasure_ordered")
FIRST_HALF = (
    "feedback.erasure_begin",
    "feedback.erasure_line",
    "feedback.erasure_listed",
    "feedback.erasure_erasing",
    "feedback.erasure_purged",
    "feedback.erasure_generation",
    "feedback.erasure_copies",
)
SECOND_HALF = ("feedback.erasure_rebuilds", "feedback.erasure_finish")


async def _teach(client: Any, peers: Any, user: str, number: int) -> list[Any]:
    replies = []
    for index in range(number):
        generation = await peers.generate(f"What is {user} number {index}?", user=user)
        replies.append(await client.correct(generation, f"It is {index}, says {user}."))
    return [reply.feedback_event for reply in replies]


@pytest.mark.parametrize("step", [*ASKING, *FIRST_HALF, *SECOND_HALF])
async def test_an_erasure_survives_a_kill_at_any_step(
    step: str,
    nats_server: NatsServer,
    own_bus: Bus,
    peers_on: Callable[[Bus], Any],
    child: Any,
    client_of: Any,
    tmp_path: Path,
) -> None:
    """Its counts are those of an erasure that nothing happened to, and another user's stay."""
    peers = peers_on(own_bus)
    feedback = child(nats_server.url)
    request_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
    async with client_of(feedback.address, peers.tenant) as client:
        await feedback.start(failpoints=f"{step}=exit(137)", training_paused="true")
        await client.wait_ready()
        erasures = Erasures(client.channel, peers.tenant)
        await _teach(client, peers, ALICE, 3)
        (kept,) = await _teach(client, peers, BOB, 1)
        await peers.remember(await client.lesson(kept.lesson))

        async def ask() -> Any:
            try:
                return await erasures.forget(ALICE, request_id=request_id)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                return None

        name = getattr(await ask(), "name", "")
        if step in SECOND_HALF:
            await confirm_as_others(own_bus, peers.tenant, name, TAINTED)
        assert await feedback.died() == 137
        await feedback.start(training_paused="true")
        await client.wait_ready()
        name = (await eventually(ask)).name
        if step not in SECOND_HALF:
            await confirm_as_others(own_bus, peers.tenant, name, TAINTED)
        done = await erasures.completed(name)

    own = receipts(done)["feedback_svc"]
    assert (done.state, own.feedback_count, own.generation_count) == (COMPLETED, 3, 3)
    of_alice = streams.feedback_created(peers.tenant, ALICE)
    assert await stored(own_bus, streams.FEEDBACK, of_alice) == 0
    assert len(await peers.recorded()) == 1
    generations = f"selm.generation.finished.{peers.tenant}.*"
    assert await stored(own_bus, streams.GENERATIONS, generations) == 1
    assert await peers.num_queued() == 1
    assert len(await own_bus.read(streams.ERASURES.name, ["selm.erasure.requested.>"])) == 1
    files = [path for path in (tmp_path / "nats").rglob("*") if path.is_file()]
    assert _num_on_disk(files, b"says users/alice") == 0
    assert _num_on_disk(files, b"says users/bob") > 0


def _num_on_disk(files: list[Path], text: bytes) -> int:
    return sum(path.read_bytes().count(text) for path in files)
