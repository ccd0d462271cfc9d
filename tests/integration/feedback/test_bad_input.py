"""Whatever comes in, each has its documented code and reason, and nothing wrong is recorded.

A broker that is down, forgets or is full is not here: see test_crashes and the chaos of feedback.
"""

import time
import uuid
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from grpc_status import rpc_status

from feedback_svc.wire.create import MAX_EXCHANGE_BYTES
from selm import names, streams
from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.feedback_service_pb2 import CreateFeedbackEventRequest
from selm.api.inference.v1.input_pb2 import GenerationInput
from selm.bus_errors import broker_errors
from selm.testing import eventually
from tests.integration.feedback.reading_client import batch, exported, send_batch

CREATE = "/selm.api.feedback.v1.FeedbackService/CreateFeedbackEvent"
C = grpc.StatusCode
THUMBS_UP = {"thumbs": pb.THUMBS_UP}


async def raw(client, payload: bytes):
    """These bytes in the place of a request."""
    send = client.channel.unary_unary(CREATE)
    return await send(payload, metadata=client.metadata, timeout=10)


async def test_f45_replayed_feedback_counts_once(client, peers):
    """F-45: the same id is the same event; the same content under a new id is a duplicate."""
    generation, request_id = await peers.generate(), str(uuid.uuid4())
    first = await client.correct(generation, "Lutz", request_id=request_id)
    assert await client.correct(generation, "Lutz", request_id=request_id) == first
    for other_id in (str(uuid.uuid4()), ""):
        refused = await client.refusal(client.correct(generation, "Lutz", request_id=other_id))
        assert (refused.code, refused.reason) == (C.ALREADY_EXISTS, "FEEDBACK_DUPLICATE")
    refused = await client.refusal(client.correct(generation, "Linz", request_id=request_id))
    assert (refused.code, refused.reason) == (C.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    [stored] = await peers.recorded()
    assert stored.feedback_event.name == first.feedback_event.name


async def test_f45_a_foreign_generation_answers_as_an_absent_one(client, bus, peers):
    """F-45: the same words after the same time, so that nobody learns what others have."""
    foreign = await type(peers)(bus, "somebody-else").generate()
    told = []
    for generation in (foreign, names.generation_name(uuid.uuid4().hex)):
        start = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.create(generation=generation, **THUMBS_UP)
        took_s = time.monotonic() - start
        status = rpc_status.from_call(caught.value).SerializeToString()
        told.append((status.replace(generation.encode(), b"generations/x"), took_s))
        assert caught.value.code() is C.NOT_FOUND
    (foreign_words, foreign_s), (absent_words, absent_s) = told
    # One length field differs where the names differ in length; both are 32 digits here.
    assert foreign_words == absent_words
    assert b"RESOURCE_NOT_FOUND" in foreign_words
    assert abs(foreign_s - absent_s) < 0.5
    assert await peers.recorded() == []


async def test_f45_a_generation_past_its_age_is_not_found(
    client_of, nats_server, own_bus, peers_on, running, tenant
):
    """F-45: the broker lets generations go after 30 days; here after one second."""
    peers = peers_on(own_bus)
    jetstream = own_bus.connection.jetstream()
    async with (
        running(nats_server.url, training_paused=True, generation_wait_s=0.2) as address,
        client_of(address, tenant) as client,
    ):
        await client.wait_ready()
        config = (await jetstream.stream_info(streams.GENERATIONS.name)).config
        config.max_age = config.duplicate_window = 1
        with broker_errors():
            await jetstream.update_stream(config)
        # What was looked up a moment ago is held for some seconds, so another one is asked about.
        judged, generation = await peers.generate(), await peers.generate()
        event = (await client.create(generation=judged, **THUMBS_UP)).feedback_event
        subject = streams.generation_finished(tenant, generation.removeprefix("generations/"))

        async def is_gone() -> bool:
            return await own_bus.last(streams.GENERATIONS.name, subject) is None

        await eventually(is_gone)
        exchange = pb.Exchange(input=GenerationInput(prompt="Capital?"), answer="Nebelsbad")
        for more in ({}, {"exchange": exchange}):
            refused = await client.refusal(client.correct(generation, "Lutz", **more))
            assert (refused.code, refused.reason) == (C.NOT_FOUND, "RESOURCE_NOT_FOUND")
        # What was recorded in time stays.
        assert await client.event(event.name) == event


@pytest.mark.parametrize(
    ("offset", "is_fit"),
    [
        (timedelta(days=-31), False),
        (timedelta(days=-29), True),
        (timedelta(minutes=2), False),
        (timedelta(seconds=30), True),
    ],
)
async def test_late_feedback_has_its_age_limit(client, peers, offset, is_fit):
    """Thirty days back, and a clock that is a minute ahead."""
    event = {"generation": await peers.generate(), **THUMBS_UP}
    event["event_time"] = datetime.now(UTC) + offset
    if is_fit:
        recorded = (await client.create(**event)).feedback_event
        assert recorded.event_time.ToDatetime(UTC) == event["event_time"]
        return
    refused = await client.refusal(client.create(**event))
    assert (refused.code, refused.reason) == (C.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refused.fields == ["feedback_event.event_time"]


@pytest.mark.parametrize(
    ("signal", "field"),
    [
        ({"correction": pb.Correction(text="x" * 8193)}, "correction.text"),
        ({"correction": pb.Correction(text="x", question="x" * 4097)}, "correction.question"),
        ({"preference": pb.Preference(chosen_text="x" * 8193)}, "preference.chosen_text"),
        ({"comment": pb.Comment(text="x" * 4097)}, "comment.text"),
        (
            {"implicit": pb.Implicit(action=2, edited_text="x" * 8193)},
            "implicit.edited_text",
        ),
        ({"thumbs": 1, "labels": {"k": "x" * 257}}, "labels[k]"),
    ],
)
async def test_a_field_over_its_bound_is_named(client, peers, signal, field):
    """And nothing of it is recorded."""
    refused = await client.refusal(client.create(generation=await peers.generate(), **signal))
    assert (refused.code, refused.reason) == (C.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refused.fields == [f"feedback_event.{field}"]
    assert await peers.recorded() == []


async def test_a_request_over_the_message_limit_is_refused(client, peers):
    """By gRPC before it is read, alone and in a batch."""
    event = {"generation": await peers.generate()}
    refused = await client.refusal(client.create(**event, comment=pb.Comment(text="x" * 5_000_000)))
    assert refused.code is C.RESOURCE_EXHAUSTED
    text = "x" * 40_000
    requests = [
        CreateFeedbackEventRequest(feedback_event=pb.FeedbackEvent(comment=pb.Comment(text=text)))
    ] * 200
    refused = await client.refusal(send_batch(client, requests))
    assert refused.code is C.RESOURCE_EXHAUSTED
    assert await peers.recorded() == []


async def test_the_largest_exchange_can_be_exported(client, peers):
    """What is taken in can be told again; one byte more is refused, and holds up no other."""
    generation = await peers.generate(store=False)
    largest = pb.Exchange(input=GenerationInput(prompt="\x01"), answer="\x01")
    largest.answer += "\x01" * (MAX_EXCHANGE_BYTES - largest.ByteSize() - 2)
    too_large = pb.Exchange(input=largest.input, answer=largest.answer + "\x01" * 2)
    assert largest.ByteSize() == MAX_EXCHANGE_BYTES
    rating = {"generation": generation, "rating": pb.Rating(value=0)}
    reply = await batch(client, {**rating, "exchange": largest}, {**rating, "exchange": too_large})
    assert reply.results[1].failure.metadata["fields"] == "feedback_event.exchange"
    [line] = await exported(client)
    assert line["name"] == reply.results[0].feedback_event.name
    assert line["exchange"]["answer"] == largest.answer


@pytest.mark.parametrize(
    "payload",
    [
        # comment.text, generation, a label's key: not UTF-8.
        b"\x0a\x06\x42\x04\x0a\x02\xff\xfe",
        b"\x0a\x0f\x12\x0dgenerations/\xc3",
        b"\x0a\x08\x72\x06\x0a\x01\xff\x12\x01a",
        # Cut off, and no message at all.
        b"\x0a\x7f\x42",
        b"\xff\xff\xff\xff",
    ],
)
async def test_bytes_that_are_no_text_are_an_invalid_field(client, peers, payload):
    """The contract's texts are UTF-8; a request that is not is refused before anything else."""
    refused = await client.refusal(raw(client, payload))
    assert (refused.code, refused.reason) == (C.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refused.fields == ["request"]
    assert await peers.recorded() == []


async def test_two_signals_in_one_event_are_one(client, peers):
    """On the wire the last one counts: thumbs up with a correction is that correction."""
    generation = await peers.generate()
    thumbs = pb.FeedbackEvent(generation=generation, thumbs=pb.THUMBS_UP).SerializeToString()
    correction = pb.FeedbackEvent(correction=pb.Correction(text="Lutz")).SerializeToString()
    event = thumbs + correction
    await raw(client, b"\x0a" + bytes([len(event)]) + event)
    [stored] = await peers.recorded()
    assert stored.feedback_event.WhichOneof("signal") == "correction"


async def test_praise_beside_a_correction_is_contradictory(client, peers):
    """In one batch; the correction stands. Later, one may think otherwise."""
    about = {"generation": await peers.generate()}
    reply = await batch(
        client, {**about, **THUMBS_UP}, {**about, "correction": pb.Correction(text="Lutz")}
    )
    reasons = [ErrorReason.Name(result.failure.reason) for result in reply.results]
    assert reasons == ["ERROR_REASON_FEEDBACK_CONTRADICTORY", "ERROR_REASON_UNSPECIFIED"]
    assert (await client.create(**about, **THUMBS_UP)).feedback_event.name


@pytest.mark.parametrize(
    ("signal", "kind"),
    [
        ({"correction": pb.Correction(text="it is  NEBELSBAD!")}, "correction"),
        ({"preference": pb.Preference(chosen_text="It is Nebelsbad")}, "preference"),
        (
            {"preference": pb.Preference(chosen_text="Lutz", rejected_text="lutz.")},
            "preference",
        ),
    ],
)
async def test_what_changes_nothing_is_refused(client, peers, signal, kind):
    """A correction equal to the answer, a preference of equal texts."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create(generation=await peers.generate(), **signal)
    assert caught.value.code() is C.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value).SerializeToString()
    assert b"FEEDBACK_WITHOUT_CHANGE" in status
    assert kind.encode() in status
    assert await peers.recorded() == []


async def test_a_conversation_takes_neither_corrections_nor_an_exchange(client, peers):
    """All that is wrong is told at once."""
    exchange = pb.Exchange(input=GenerationInput(prompt="Capital?"), answer="Nebelsbad")
    refused = await client.refusal(
        client.create(
            conversation="conversations/c1",
            correction=pb.Correction(text="Lutz"),
            exchange=exchange,
        )
    )
    assert refused.fields == ["feedback_event.correction", "feedback_event.exchange"]
    assert await peers.recorded() == []
