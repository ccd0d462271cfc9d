"""Credentials of limited scopes at a running feedback_svc: what they may, and how they are refused.

Authentication is off, so the one seam where it goes is filled with what the test says.
"""

import uuid
from collections.abc import Mapping

import grpc
import pytest

from selm import auth
from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import feedback_event_pb2, feedback_service_pb2
from selm.api.feedback.v1.feedback_service_pb2 import CreateFeedbackEventRequest

REFUSED = (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
ABSENT = (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


@pytest.fixture
def become(monkeypatch):
    """`become("ada", "feedback.write")`: who calls from now on."""

    def become(subject: str, *scopes: str) -> None:
        def authenticate(metadata: Mapping[str, str]) -> auth.Principal:
            tenant = auth.authenticate(metadata).tenant
            return auth.Principal(tenant, subject, frozenset(scopes))

        monkeypatch.setattr("selm.layers.authenticate", authenticate)

    return become


async def refusal(client, call) -> tuple[grpc.StatusCode, str]:
    refused = await client.refusal(call)
    return refused.code, refused.reason


async def test_a_user_writes_and_reads_what_is_its_own(client, peers, become):
    """With scope `feedback.write` alone; what another wrote is absent for it."""
    of_ada = await peers.generate(user="users/ada")
    become("ada", "feedback.write")
    reply = await client.correct(of_ada, "Lutz")
    event = reply.feedback_event
    assert (event.author, event.user) == ("ada", "users/ada")
    assert (await client.event(event.name)).name == event.name
    assert (await client.lesson(event.lesson)).name == event.lesson
    become("bob", "feedback.write")
    assert await refusal(client, client.event(event.name)) == ABSENT
    assert await refusal(client, client.lesson(event.lesson)) == ABSENT
    assert await refusal(client, anext(aiter(client.watch(event.lesson)))) == ABSENT
    assert await refusal(client, client.correct(of_ada, "Lutz")) == REFUSED
    become("bob", "feedback.read")
    assert (await client.lesson(event.lesson)).author == "ada"
    assert await refusal(client, client.correct(of_ada, "Lutz")) == REFUSED
    become("bob", "feedback.write", "feedback.write_all")
    assert (await client.correct(of_ada, "Lutz")).feedback_event.user == "users/ada"


async def test_in_a_batch_each_item_is_refused_on_its_own(client, peers, become):
    """As every other refusal of an item is."""
    generations = [await peers.generate(user=f"users/{name}") for name in ("ada", "bob")]
    become("ada", "feedback.write")
    requests = [
        CreateFeedbackEventRequest(
            feedback_event=feedback_event_pb2.FeedbackEvent(generation=one, thumbs="THUMBS_UP"),
            request_id=str(uuid.uuid4()),
        )
        for one in generations
    ]
    reply = await client.feedback.BatchCreateFeedbackEvents(
        feedback_service_pb2.BatchCreateFeedbackEventsRequest(requests=requests),
        metadata=client.metadata,
        timeout=10,
    )
    own, foreign = reply.results
    assert own.feedback_event.user == "users/ada"
    assert foreign.failure.reason == ErrorReason.ERROR_REASON_SCOPE_MISSING
    assert foreign.failure.metadata == {"scope": "feedback.write_all"}


async def test_a_credential_without_scopes_may_nothing(client, become):
    """Neither feedback nor what is the operators'."""
    become("ada")
    assert await refusal(client, client.stats()) == REFUSED
    assert await refusal(client, client.train()) == REFUSED
    assert await refusal(client, client.create(generation="generations/g1")) == REFUSED
