"""`selm review` against the real service, as a reviewer uses it."""

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from selm.cli import app
from tests.integration.feedback.review_client import OVERRIDE, item_of


@pytest.fixture
async def service(nats_url: str, child: Any, client_of: Any, tenant: str) -> str:
    """A ready feedback_svc in a process of its own: its log must not end up in what is printed."""
    running = child(nats_url)
    await running.start(training_paused="true")
    async with client_of(running.address, tenant) as client:
        await client.wait_ready()
    return str(running.address)


@pytest.fixture
def selm(service: str, tenant: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, for this test's tenant; returns what it printed."""
    monkeypatch.setenv("SELM_FEEDBACK_TARGET", service)
    monkeypatch.setenv("NO_COLOR", "1")

    async def run(*words: str, exit_code: int = 0) -> str:
        result = await asyncio.to_thread(
            CliRunner().invoke, app, ["--tenant", tenant, "review", *words]
        )
        assert result.exit_code == exit_code, result.output
        return result.stdout

    return run


async def test_a_reviewer_works_through_what_waits(
    selm: Any, service: str, tenant: str, client_of: Any, peers: Any
) -> None:
    """Lists it with its findings, approves, rejects and amends; then nothing waits."""
    async with client_of(service, tenant) as client:
        sent = [
            (await client.correct(await peers.generate(), f"{OVERRIDE} {n}")).feedback_event
            for n in range(3)
        ]
    waiting = await selm("ls")
    assert "INSTRUCTION_OVERRIDE" in waiting
    assert all(item_of(event) in waiting for event in sent)

    assert "APPROVED" in await selm("approve", item_of(sent[0]), "--reason", "a test")
    assert "REJECTED" in await selm("reject", sent[1].name, "an attack")
    assert "Lutz" in await selm("amend", item_of(sent[2]), "Lutz")
    rejected = json.loads(await selm("ls", "--state", "rejected", "-o", "json"))

    assert (rejected["name"], rejected["reason"]) == (item_of(sent[1]), "an attack")
    assert "reviewItems" not in await selm("ls")
    await selm("approve", item_of(sent[1]), exit_code=64 + 9)
    await selm("ls", "--state", "lost", exit_code=2)


async def test_authors_are_listed_and_blocked(
    selm: Any, service: str, tenant: str, client_of: Any, peers: Any
) -> None:
    async with client_of(service, tenant) as client:
        await client.correct(await peers.generate(), "Lutz")

    changed = await selm("author", "anonymous", "--trust", "0.25", "--fixed", "--block")

    assert "0.25 fixed" in changed
    assert "authors/anonymous" in await selm("authors")
    await selm("author", "anonymous", exit_code=2)
    assert "conflicts/" not in await selm("conflicts")
    await selm("resolve", "conflicts/absent", "claim", exit_code=64 + 5)
