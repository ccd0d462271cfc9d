"""`selm policy`, `selm requests` and `selm dead-letters` against the real service."""

import json
import uuid

from selm import streams
from selm.testing import eventually
from tests.integration.feedback.learning_client import teach


async def test_a_policy_is_shown_and_changed(selm):
    """What is not named stays; a field may go back to its default."""
    assert "unlimited" in await selm("policy", "show")
    changed = await selm(
        "policy", "set", "--min-lessons", "3", "--running", "--schedule", "0 3 * * *",
        "--daily-budget", "90", "--default-consent", "memory_only", "-o", "json",
    )  # fmt: skip
    policy = json.loads(changed)
    assert (policy["minLessons"], policy["schedule"]) == (3, "0 3 * * *")
    assert (policy["dailyBudget"], policy["defaultConsent"]) == ("90s", "CONSENT_MEMORY_ONLY")
    shown = await selm("policy", "set", "--reset", "min_lessons", "--schedule", "")
    assert "schedule          off" in shown
    assert "90 s" in shown
    await selm("policy", "set", exit_code=2)
    await selm("policy", "set", "--default-consent", "everything", exit_code=2)
    await selm("policy", "set", "--schedule", "61 * * * *", exit_code=67)


async def test_requests_are_listed_made_urgent_and_cancelled(selm, peers):
    """Each command prints the request as it then is."""
    await teach(selm.client, peers, 1)
    request = await selm.client.train()
    assert request.name in await selm("requests", "ls", "--state", "waiting")
    urgent = json.loads(await selm("requests", "priority", request.name, "7", "-o", "json"))
    assert urgent["priority"] == 7
    assert "CANCELLED" in await selm("requests", "cancel", request.name)
    assert request.name not in await selm("requests", "ls", "--state", "waiting")
    await selm("requests", "ls", "--state", "lost", exit_code=2)


async def test_what_waits_is_counted(selm, peers):
    """By adapter and kind; an adapter of which there is nothing has no row."""
    await teach(selm.client, peers, 1)

    async def counted() -> str:
        # The numbers may be some seconds old.
        return await selm("requests", "stats", "-o", "json")

    stats = json.loads(await eventually(counted))
    assert (stats["kind"], stats["waitingLessons"]) == ("FEEDBACK_KIND_CORRECTION", "1")
    table = await selm("requests", "stats", "--adapter", "adapters/default")
    assert "waiting lessons" in table
    assert "CORRECTION" in table
    assert "CORRECTION" not in await selm("requests", "stats", "--adapter", "adapters/other")


async def test_dead_letters_are_listed_replayed_and_discarded(selm, peers):
    """By name, or all that are open."""
    for number in (1, 2):
        await peers.bus.publish_raw(
            streams.dead_letter_created(peers.tenant, f"feedback-x-{number}"),
            b"nobody can read this",
            message_id=uuid.uuid4().hex,
            headers={
                "Selm-Dead-Stream": "FEEDBACK",
                "Selm-Dead-Consumer": "x",
                "Selm-Dead-Subject": streams.feedback_created(peers.tenant, "users/ada"),
                "Selm-Dead-Sequence": str(number),
                "Selm-Dead-Message": "no question",
            },
        )

    async def both() -> str:
        listed = await selm("dead-letters", "ls", "--stream", "FEEDBACK")
        return listed if "feedback-x-2" in listed else ""

    table = await eventually(both)
    assert "deadLetters/feedback-x-1" in table
    assert "no question" in table
    discarded = await selm("dead-letters", "discard", "deadLetters/feedback-x-1", "--reason", "old")
    assert "discarded 1" in discarded
    assert "replayed 1" in await selm("dead-letters", "replay")
    assert "feedback-x" not in await selm("dead-letters", "ls")
    assert "feedback-x-2" in await selm("dead-letters", "ls", "--state", "replayed")
