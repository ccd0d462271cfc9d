"""Each adapter's policy over gRPC: defaults, changes, etags, and that it holds."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from selm import streams
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated, TrainingRequested
from selm.api.feedback.v1.feedback_event_pb2 import Consent, Correction, FeedbackEvent
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.api.trainer.v1.training_job_pb2 import TrainingJob
from selm.testing import eventually
from tests.integration.feedback.learning_client import (
    POLICY,
    call,
    is_queued,
    make_adapter,
    policy,
    set_policy,
    teach,
)


async def test_an_unchanged_policy_is_the_deployments(client_of, nats_url, running, tenant):
    """With every default filled in, and no etag: nothing was written."""
    async with (
        running(nats_url, min_lessons=3, idle_s=7, default_consent="MEMORY_ONLY") as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        known = await policy(client)
    assert (known.name, known.min_lessons, known.quorum_authors) == (POLICY, 3, 1)
    assert known.max_lesson_age.seconds == 7
    assert (known.debounce.seconds, known.cooldown.seconds) == (5, 30)
    assert not known.HasField("daily_budget")
    assert (known.default_consent, known.etag) == (1, "")


async def test_a_change_changes_what_it_names_and_is_there_after_a_restart(
    client_of, nats_url, running, tenant
):
    """Without a mask what is filled in; with one what it lists, unset fields to their default."""
    async with (
        running(nats_url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        first = await set_policy(client, min_lessons=3, schedule="0 3 * * *", quorum_authors=2)
        second = await set_policy(client, mask=["min_lessons", "paused"], quorum_authors=9)
        assert (first.min_lessons, first.paused) == (3, True)
        assert (second.min_lessons, second.paused, second.quorum_authors) == (8, False, 2)
        assert len({"", first.etag, second.etag}) == 3
        assert await policy(client) == second
    async with (
        running(nats_url, training_paused=True) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        assert await policy(client) == second
        cleared = await set_policy(client, mask=["*"])
        assert (cleared.schedule, cleared.quorum_authors, cleared.paused) == ("", 1, False)


async def test_an_etag_guards_a_change_and_a_repeat_changes_nothing(client):
    """Of two who read the same policy one is told; a retry is no second writer."""
    read = await set_policy(client, min_lessons=3)
    written = await set_policy(client, min_lessons=4, etag=read.etag)
    refused = await client.refusal(set_policy(client, min_lessons=5, etag=read.etag))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "STALE_ETAG")
    request_id = str(uuid.uuid4())
    again = {"request_id": request_id, "min_lessons": 6, "etag": written.etag}
    changed = await set_policy(client, **again)
    assert await set_policy(client, **again) == changed
    await set_policy(client, min_lessons=7)
    assert (await set_policy(client, **again)).min_lessons == 7
    refused = await client.refusal(set_policy(client, request_id=request_id, min_lessons=1))
    assert refused.reason == "REQUEST_ID_REUSED"


async def test_a_change_whose_answer_was_lost_is_made_once(child, client_of, nats_url, tenant):
    """The repeat finds its own write, although its etag is the one from before."""
    service = child(nats_url)
    async with client_of(service.address, tenant) as client:
        await service.start("feedback.after_policy=2*exit(137)", training_paused="true")
        await client.wait_ready()
        read = await set_policy(client, min_lessons=3)
        wish = {"request_id": str(uuid.uuid4()), "min_lessons": 4, "etag": read.etag}
        refused = await client.refusal(set_policy(client, **wish))
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert await service.died() == 137
        await service.start(training_paused="true")
        await client.wait_ready()
        assert (await set_policy(client, **wish)).min_lessons == 4
        assert await set_policy(client, **wish) == await policy(client)


async def test_what_no_policy_can_be_is_refused_all_at_once(client):
    """Every violation is named; unknown adapters are not found; tenants are apart."""
    bad = {
        "min_lessons": -1,
        "schedule": "61 * * * *",
        "max_author_share": 1.5,
        "quorum_authors": -2,
        "debounce": Duration(seconds=-1),
        "default_consent": 77,
    }
    refused = await client.refusal(set_policy(client, mask=["nonsense", *bad], **bad))
    fields = {f"training_policy.{name}" for name in bad}
    assert set(refused.fields) == fields | {"update_mask[nonsense]"}
    refused = await client.refusal(call(client, "GetTrainingPolicy", name="adapters/default"))
    assert refused.fields == ["name"]
    for unknown in (policy(client, "adapters/unknown"), set_policy(client, "adapters/unknown")):
        assert (await client.refusal(unknown)).reason == "ADAPTER_NOT_FOUND"
    await set_policy(client, min_lessons=3)
    client.tenant = f"{client.tenant}-other"
    assert (await policy(client)).min_lessons == 8


async def test_adapters_learn_each_by_its_own_policy(client_of, nats_url, peers, running, tenant):
    """One is paused, one trains at two lessons; the request tells the share of an author."""
    async with (
        running(nats_url, debounce_s=0.05, cooldown_s=0) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        paused = await make_adapter(peers, "paused-one")
        await set_policy(client, paused, paused=True, min_lessons=1)
        await set_policy(client, min_lessons=2, max_author_share=0.25)
        for number in range(2):
            await teach(client, peers, number, adapter=paused)
            await teach(client, peers, number + 10)
        await eventually(lambda: is_queued(peers, 1))
        await asyncio.sleep(0.3)
        reply = await call(client, "ListTrainingRequests")
        [request] = reply.training_requests
    assert request.adapter == "adapters/default"
    assert request.trigger == TrainingRequest.TRIGGER_COUNT
    message = await peers.bus.last("TRAINING", f"selm.training.requested.{tenant}")
    assert message.parse(TrainingRequested).max_author_share == 0.25


@pytest.mark.parametrize("crash", ["", "feedback.after_request=exit(137)"])
async def test_a_schedule_that_came_while_nobody_ran_is_heeded_once(
    crash, child, client_of, nats_url, peers, tenant
):
    """However many minutes were missed, and if the process dies right after asking."""
    service = child(nats_url)
    quiet = {"idle_s": "0", "min_lessons": "100", "cooldown_s": "0"}
    async with client_of(service.address, tenant) as client:
        await service.start(**quiet)
        await client.wait_ready()
        await set_policy(client, schedule="* * * * *")
        await service.kill()
        # As if it had been set, and the lesson taught, ten minutes ago.
        await _set_back(peers, minutes=10)
        await _taught_earlier(peers, minutes=10)
        await service.start(crash, **quiet)
        if crash:
            assert await service.died() == 137
            await service.start(**quiet)
        await client.wait_ready()
        await eventually(lambda: is_queued(peers, 1))
        request = await peers.take_request()
        await peers.job(request, TrainingJob.STATE_FAILED)
        await asyncio.sleep(0.5)
        requests = (await call(client, "ListTrainingRequests")).training_requests
    num_minutes = 2 if datetime.now(UTC).minute != request.create_time.ToDatetime().minute else 1
    assert len(requests) <= num_minutes
    assert requests[-1].trigger == TrainingRequest.TRIGGER_SCHEDULE
    assert requests[-1].requester == "policy"


async def _taught_earlier(peers, minutes: int) -> None:
    """A remembered lesson, recorded so long ago."""
    event = FeedbackEvent(
        name="feedbackEvents/earlier",
        generation="generations/earlier",
        correction=Correction(text="It is 7", question="What is the number of house 7?"),
        user="users/anonymous",
        adapter="adapters/default",
        consent=Consent.CONSENT_SHARED_ADAPTER,
        reach=Consent.CONSENT_SHARED_ADAPTER,
        state=FeedbackEvent.STATE_ACCEPTED,
        author="anonymous",
        lesson=f"lessons/{uuid.uuid4().hex}",
    )
    earlier = datetime.now(UTC) - timedelta(minutes=minutes)
    event.create_time.FromDatetime(earlier)
    event.event_time.FromDatetime(earlier)
    message = FeedbackEventCreated(feedback_event=event)
    message.event_time.FromDatetime(earlier)
    subject = streams.feedback_created(peers.tenant, event.user)
    await peers.bus.publish(subject, message, message_id=f"{peers.tenant}{event.name}")
    await peers.step(
        Lesson(name=event.lesson, feedback_event=event.name),
        "REMEMBERED",
        "users/anonymous/memories/m",
    )


async def _set_back(peers, minutes: int) -> None:
    bucket = peers.bus.kv("training_policies")
    key = f"policy.{peers.tenant}.default"
    stored = json.loads((await bucket.get(key)).value)
    earlier = datetime.now(UTC) - timedelta(minutes=minutes)
    await bucket.put(key, json.dumps({**stored, "update_time": earlier.isoformat()}).encode())


async def test_over_the_daily_budget_automatic_requests_wait_and_manual_ones_run(
    client_of, nats_url, peers, running, tenant
):
    """The waiting one says why; asked for by hand, it runs."""
    async with (
        running(nats_url, idle_s=0.1, debounce_s=0, cooldown_s=0) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        await set_policy(client, daily_budget=Duration(seconds=0))
        await teach(client, peers, 1)

        async def waiting():
            return list((await call(client, "ListTrainingRequests")).training_requests)

        [held] = await eventually(waiting)
        assert held.state == TrainingRequest.STATE_WAITING
        assert "daily budget of 0 s is used up" in held.reason
        await asyncio.sleep(0.3)
        assert await peers.num_queued() == 0
        urged = await client.train()
        assert (urged.name, urged.reason) == (held.name, "")
        assert await peers.num_queued() == 1


async def test_what_one_replica_changes_holds_on_the_other(
    client_of, nats_url, peers, running, tenant
):
    """Without asking the broker at each event: a correction's consent is what the policy says."""
    async with (
        running(nats_url, training_paused=True) as one,
        running(nats_url, training_paused=True) as other,
        client_of(one, tenant) as first,
        client_of(other, tenant) as second,
    ):
        await first.wait_ready()
        await second.wait_ready()
        changed = await set_policy(first, default_consent=1)
        assert await policy(second) == changed
        written = await set_policy(second, default_consent=2)

        async def is_heard() -> bool:
            generation = await peers.generate()
            event = (
                await first.create(generation=generation, comment={"text": "Hm."})
            ).feedback_event
            return event.consent == 2

        await eventually(is_heard)
        refused = await first.refusal(set_policy(first, paused=False, etag=changed.etag))
        assert refused.reason == "STALE_ETAG"
        assert await policy(first) == written
