"""`selm review` against the real service, as a reviewer uses it."""

import json
from typing import Any

from selm.testing import eventually
from tests.integration.feedback.command_line import CommandLine
from tests.integration.feedback.review_client import (
    OPEN,
    OVERRIDE,
    Person,
    client,
    item_of,
    rita,
)

__all__ = ["client", "rita"]


async def test_a_reviewer_works_through_what_waits(selm: Any, peers: Any) -> None:
    """Lists it with its findings, approves, rejects and amends; then nothing waits."""
    sent = [
        (await selm.client.correct(await peers.generate(), f"{OVERRIDE} {n}")).feedback_event
        for n in range(3)
    ]
    waiting = await selm("review", "ls")
    assert "INSTRUCTION_OVERRIDE" in waiting
    assert all(item_of(event) in waiting for event in sent)
    shown = await selm("review", "get", sent[0].name)
    assert "INSTRUCTION_OVERRIDE" in shown
    assert "PENDING" in shown

    assert "APPROVED" in await selm("review", "approve", item_of(sent[0]), "--reason", "a test")
    assert "REJECTED" in await selm("review", "reject", sent[1].name, "an attack")
    assert "Lutz" in await selm("review", "amend", item_of(sent[2]), "Lutz")
    rejected = json.loads(await selm("review", "ls", "--state", "rejected", "-o", "json"))

    assert (rejected["name"], rejected["reason"]) == (item_of(sent[1]), "an attack")
    assert "reviewItems" not in await selm("review", "ls")
    await selm("review", "approve", item_of(sent[1]), exit_code=64 + 9)
    await selm("review", "ls", "--state", "lost", exit_code=2)


async def test_authors_are_listed_and_blocked(selm: Any, peers: Any) -> None:
    await selm.client.correct(await peers.generate(), "Lutz")

    changed = await selm("review", "author", "anonymous", "--trust", "0.25", "--fixed", "--block")

    assert "0.25 fixed" in changed
    listed = await selm("review", "authors")
    assert "authors/anonymous" in listed
    # What nobody reviewed counts as well, and is no approval.
    assert "events that count" in listed
    await selm("review", "author", "anonymous", exit_code=2)
    assert "conflicts/" not in await selm("review", "conflicts")
    await selm("review", "resolve", "conflicts/absent", "claim", exit_code=64 + 5)


async def test_a_conflict_is_looked_at_and_resolved(rita: Person, client: Any, peers: Any) -> None:
    """What is claimed against each other, and afterwards which claim won."""
    await rita.set_policy(quorum_authors=2)
    for name, answer in (("anna", "Lutz"), ("bo", "Zubrow")):
        await rita.named(name).correct(await peers.generate(), answer, user=f"users/{name}")

    async def opened() -> Any:
        return await rita.conflicts(OPEN)

    (conflict,) = await eventually(opened)
    claim = conflict.claims[0].claim_id
    selm = CommandLine(client, rita.address)
    shown = await selm("review", "conflict", conflict.name)
    resolved = await selm("review", "resolve", conflict.name, claim)
    later = await selm("review", "conflict", conflict.name)
    assert "OPEN" in shown
    assert claim in shown
    assert f"{claim} (won)" in resolved
    assert "RESOLVED" in later
    assert "resolved by  anonymous" in later
    await selm("review", "conflict", "conflicts/absent", exit_code=64 + 5)
