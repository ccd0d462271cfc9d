"""`selm forget` and `selm erasures` against a running service: count, ask, follow, and look."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from selm.api.memory.v1 import memory_admin_service_pb2 as memory_pb
from selm.api.memory.v1 import memory_admin_service_pb2_grpc
from selm.erasures import TaintedRevision
from selm.testing import eventually
from tests.integration.feedback.erasure_client import Erasures, confirm_as_others

REVISION = "adapters/default/revisions/r0123456789abcdef"
ALICE = "users/alice"


class CountingPeer(memory_admin_service_pb2_grpc.MemoryAdminServiceServicer):
    """What memory_svc says when it is asked how much would go."""

    async def PurgeMemories(self, request: Any, context: Any) -> Any:
        return memory_pb.PurgeMemoriesResponse(purge_count=7)


@pytest.fixture
async def memory_server() -> AsyncIterator[tuple[grpc.aio.Server, str]]:
    server = grpc.aio.server()
    memory_admin_service_pb2_grpc.add_MemoryAdminServiceServicer_to_server(CountingPeer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield server, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
def memory_target(memory_server: tuple[grpc.aio.Server, str]) -> str:
    return memory_server[1]


async def test_it_asks_follows_and_shows_the_receipt(peers: Any, selm: Any) -> None:
    """A line per step of a service, and the aliases that still point to a tainted revision."""
    client = selm.client
    generation = await peers.generate(user=ALICE)
    await client.correct(generation, "Nebelsbad Two")
    counted = await selm("forget", ALICE, "--dry-run")
    refused = await selm.run("forget", ALICE, text="n\n")
    erasures = Erasures(client.channel, client.tenant)
    before = (await erasures.list()).erasures

    async def ordered() -> Any:
        return (await erasures.list()).erasures

    async def confirm() -> None:
        made = await eventually(ordered)
        tainted = TaintedRevision(REVISION, "ab" * 32, 1, ("adapters/default/aliases/stable",))
        await confirm_as_others(peers.bus, client.tenant, made[0].name, tainted, num_memories=7)

    confirming = asyncio.create_task(confirm())
    text = await selm("forget", ALICE, "--yes")
    await confirming

    assert "would go" in counted
    assert "7 memories" in counted
    assert "1 feedback events, 1 generations" in counted
    assert (refused.exit_code, len(before)) == (1, 0)
    assert "COMPLETED" in text
    assert "7 memories" in text
    assert f"tainted: {REVISION}, 1 examples, still aliased by adapters/default/aliases/stable" in (
        text
    )


@pytest.mark.parametrize("output", ["table", "json"])
async def test_half_a_count_is_no_success(
    selm: Any, memory_server: tuple[grpc.aio.Server, str], output: str
) -> None:
    """What was counted is shown, what was not is named, and a script sees that it failed."""
    await memory_server[0].stop(None)
    told = await selm.run("forget", ALICE, "--dry-run", "-o", output)
    assert told.exit_code == 64 + grpc.StatusCode.UNAVAILABLE.value[0]
    assert "feedback_svc" in told.stdout
    assert "PEER_UNAVAILABLE: what would go from memory_svc is not counted" in told.stderr


async def test_as_json_it_prints_what_was_answered(selm: Any) -> None:
    """One line for who does not wait."""
    text = await selm("forget", "users/nobody", "--yes", "--no-wait", "-o", "json")
    assert json.loads(text)["user"] == "users/nobody"


async def test_erasures_can_be_listed_looked_at_and_followed(selm: Any, peers: Any) -> None:
    """By name or id; following one ends when it is completed, and prints its receipt."""
    asked = await selm("forget", ALICE, "--yes", "--no-wait", "--reason", "a wish", "-o", "json")
    name = json.loads(asked)["name"]
    running = await selm("erasures", "ls", "--state", "running")
    none = await selm("erasures", "ls", "--state", "completed", "-o", "json")
    shown = await selm("erasures", "get", name.removeprefix("erasures/"))
    following = asyncio.create_task(selm("erasures", "watch", name))
    tainted = TaintedRevision(REVISION, "ab" * 32, 1, ())
    await confirm_as_others(peers.bus, selm.client.tenant, name, tainted, num_memories=7)
    followed = await following
    frames = (await selm("erasures", "watch", name, "-o", "json")).splitlines()
    got = json.loads(await selm("erasures", "get", name, "-o", "json"))

    assert name in running
    assert "a wish" in running
    assert none == ""
    assert "RUNNING" in shown
    assert "COMPLETED" in followed
    assert f"tainted: {REVISION}" in followed
    assert [json.loads(frame) for frame in frames] == [got]
    assert got["state"] == "STATE_COMPLETED"
    await selm("erasures", "get", "erasures/never-was", exit_code=64 + 5)
    await selm("erasures", "ls", "--state", "lost", exit_code=2)
