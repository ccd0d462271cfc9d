"""`selm forget` against a running service: it counts, asks, follows, and shows the receipt."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner

from selm.cli import app
from selm.erasures import TaintedRevision
from selm.testing import eventually
from tests.integration.feedback.erasure_client import Erasures, confirm_as_others

REVISION = "adapters/default/revisions/r0123456789abcdef"
ALICE = "users/alice"


@pytest.fixture
async def client(
    nats_url: str, tenant: str, running: Any, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    async with (
        running(nats_url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        monkeypatch.setenv("SELM_FEEDBACK_TARGET", address)
        monkeypatch.setenv("NO_COLOR", "1")
        yield await client.wait_ready()


@pytest.fixture
def selm(client: Any) -> Any:
    """Runs `selm forget` in a thread; its exit code and output."""

    async def run(*arguments: str, text: str = "") -> tuple[int, str]:
        words = ["--tenant", client.tenant, "forget", *arguments]
        result = await asyncio.to_thread(CliRunner().invoke, app, words, input=text)
        return result.exit_code, result.output

    return run


async def test_it_asks_follows_and_shows_the_receipt(client: Any, peers: Any, selm: Any) -> None:
    """A line per step of a service, and the aliases that still point to a tainted revision."""
    generation = await peers.generate(user=ALICE)
    await client.correct(generation, "Nebelsbad Two")
    counted = await selm(ALICE, "--dry-run")
    refused = await selm(ALICE, text="n\n")
    erasures = Erasures(client.channel, client.tenant)
    before = (await erasures.list()).erasures

    async def ordered() -> Any:
        return (await erasures.list()).erasures

    async def confirm() -> None:
        made = await eventually(ordered)
        tainted = TaintedRevision(REVISION, "ab" * 32, 1, ("adapters/default/aliases/stable",))
        await confirm_as_others(peers.bus, client.tenant, made[0].name, tainted, num_memories=7)

    confirming = asyncio.create_task(confirm())
    code, text = await selm(ALICE, "--yes")
    await confirming

    assert counted[0] == 0
    assert "would go" in counted[1]
    assert "1 feedback events, 1 generations" in counted[1]
    assert (refused[0], len(before)) == (1, 0)
    assert code == 0
    assert "COMPLETED" in text
    assert "7 memories" in text
    assert f"tainted: {REVISION}, 1 examples, still aliased by adapters/default/aliases/stable" in (
        text
    )


async def test_as_json_it_prints_what_was_answered(client: Any, selm: Any) -> None:
    """One line for who does not wait."""
    code, text = await selm("users/nobody", "--yes", "--no-wait", "-o", "json")
    assert code == 0
    # The service runs in this process, and its log lines come in between.
    (line,) = [line for line in text.splitlines() if line.startswith("{")]
    assert json.loads(line)["user"] == "users/nobody"
