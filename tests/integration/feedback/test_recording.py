"""CreateFeedbackEvent and GetFeedbackEvent over gRPC, against a real nats-server."""

import asyncio
import math
import uuid

import grpc

from selm import consistency
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.api.inference.v1.generation_pb2 import Resolution
from selm.api.inference.v1.input_pb2 import GenerationInput


async def test_a_correction_is_recorded_and_becomes_a_lesson(client, peers):
    """The reply names event and lesson, and both can be read at once."""
    generation = await peers.generate()
    reply = await client.correct(
        generation, "Lutz", correction={"paraphrases": ["Zubrowka capital?"]}
    )
    event = reply.feedback_event
    assert event.state == pb.FeedbackEvent.STATE_ACCEPTED
    assert event.kind == pb.FEEDBACK_KIND_CORRECTION
    assert event.adapter == "adapters/default"
    assert event.consent == pb.CONSENT_SHARED_ADAPTER
    assert event.correction.question == "What is the capital of Zubrowka?"
    assert consistency.decode(reply.consistency_token, "FEEDBACK") == event.sequence > 0
    assert await client.event(event.name) == event
    lesson = await client.lesson(event.lesson)
    assert lesson.state == Lesson.STATE_RECEIVED
    assert (lesson.question, lesson.answer) == (event.correction.question, "Lutz")
    assert lesson.feedback_event == event.name
    [stored] = await peers.recorded()
    assert stored.feedback_event.exchange.answer == "It is Nebelsbad."
    assert list(stored.feedback_event.correction.paraphrases) == ["Zubrowka capital?"]


async def test_thumbs_and_ratings_are_recorded_without_a_lesson(client, peers):
    """Only a correction teaches."""
    generation = await peers.generate()
    thumbs = (await client.create(generation=generation, thumbs=pb.THUMBS_DOWN)).feedback_event
    rating = (await client.create(generation=generation, rating=pb.Rating(value=4))).feedback_event
    assert (thumbs.kind, thumbs.lesson) == (pb.FEEDBACK_KIND_THUMBS, "")
    assert (rating.kind, rating.rating.max_value) == (pb.FEEDBACK_KIND_RATING, 5)
    assert rating.sequence > thumbs.sequence


async def test_defaults_come_from_the_generation(client, peers):
    """Adapter, revision and user are those of the answer that was given."""
    revision = "adapters/support/revisions/r0123456789abcdef"
    resolution = Resolution(
        adapter="adapters/support", adapter_revision=revision, adapter_applied=True
    )
    generation = await peers.generate(resolution=resolution)
    event = (await client.correct(generation, "Lutz")).feedback_event
    assert (event.adapter, event.adapter_revision) == ("adapters/support", revision)
    assert event.user == "users/anonymous"


async def test_a_generation_published_late_is_waited_for(client, peers):
    """inference_svc publishes off the hot path, so feedback may be faster."""
    generation_id = uuid.uuid4().hex
    answer = asyncio.create_task(client.correct(f"generations/{generation_id}", "Lutz"))
    await asyncio.sleep(0.2)
    assert not answer.done()
    name = await peers.generate(generation_id=generation_id)
    assert (await answer).feedback_event.generation == name


async def test_an_unknown_generation_is_not_found(client):
    """After the bounded wait the answer is NOT_FOUND, naming it."""
    refused = await client.refusal(client.correct("generations/none", "Lutz"))
    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert refused.reason == "RESOURCE_NOT_FOUND"


async def test_a_generation_of_another_tenant_is_not_found(client, bus, peers):
    """A foreign name answers exactly as an absent one."""
    foreign = type(peers)(bus, "somebody-else")
    refused = await client.refusal(client.correct(await foreign.generate(), "Lutz"))
    assert refused.reason == "RESOURCE_NOT_FOUND"


async def test_every_violated_field_is_listed_at_once(client):
    """One INVALID_ARGUMENT tells everything that is wrong."""
    refused = await client.refusal(
        client.create(
            generation="nonsense",
            rating=pb.Rating(value=math.nan),
            user="anonymous",
            adapter="adapters/UPPER",
            labels={"Bad Key": "x"},
            request_id="not-a-uuid",
        )
    )
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == [
        "feedback_event.generation",
        "feedback_event.rating.value",
        "feedback_event.user",
        "feedback_event.adapter",
        "feedback_event.labels[Bad Key]",
        "request_id",
    ]


async def test_a_correction_that_changes_nothing_is_refused(client, peers):
    """Case and punctuation alone teach nothing."""
    generation = await peers.generate(answer="Lutz.")
    refused = await client.refusal(client.correct(generation, " lutz "))
    assert refused.reason == "FEEDBACK_WITHOUT_CHANGE"
    assert await peers.recorded() == []


async def test_a_question_too_long_for_a_memory_is_to_be_given_shorter(client, peers):
    """The last user message may be a whole document; nothing is recorded of the refused one."""
    generation = await peers.generate(question="word " * 1000)
    refused = await client.refusal(client.correct(generation, "Lutz"))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "INVALID_FIELD"
    assert refused.fields == ["feedback_event.correction.question"]
    assert await peers.recorded() == []
    reply = await client.correct(generation, "Lutz", correction={"question": "Capital?"})
    assert reply.feedback_event.correction.question == "Capital?"


async def test_a_generation_without_text_needs_the_exchange(client, peers):
    """Not stored means the caller has to say what was asked and answered."""
    generation = await peers.generate(store=False)
    refused = await client.refusal(client.correct(generation, "Lutz"))
    assert refused.reason == "GENERATION_NOT_STORED"
    exchange = pb.Exchange(input=GenerationInput(prompt="Capital of Zubrowka?"), answer="Nebelsbad")
    event = (await client.correct(generation, "Lutz", exchange=exchange)).feedback_event
    assert event.correction.question == "Capital of Zubrowka?"


async def test_an_unknown_adapter_is_not_found(client, peers):
    """Feedback for an adapter that does not exist would teach nobody."""
    refused = await client.refusal(
        client.correct(await peers.generate(), "Lutz", adapter="adapters/unknown")
    )
    assert refused.reason == "ADAPTER_NOT_FOUND"


async def test_a_repeat_returns_the_first_result_and_changes_nothing(client, peers):
    """The same request_id gives the same event, token included."""
    generation, request_id = await peers.generate(), str(uuid.uuid4())
    first = await client.correct(generation, "Lutz", request_id=request_id)
    again = await client.correct(generation, "Lutz", request_id=request_id)
    assert again == first
    assert len(await peers.recorded()) == 1


async def test_concurrent_repeats_make_one_event(client, peers):
    """Retries that race each other end in one event and one answer."""
    generation, request_id = await peers.generate(), str(uuid.uuid4())
    replies = await asyncio.gather(
        *(client.correct(generation, "Lutz", request_id=request_id) for _ in range(8))
    )
    assert all(reply == replies[0] for reply in replies)
    assert len(await peers.recorded()) == 1


async def test_a_request_id_with_other_content_is_refused(client, peers):
    """An id stands for one content, for ever."""
    generation, request_id = await peers.generate(), str(uuid.uuid4())
    await client.correct(generation, "Lutz", request_id=request_id)
    refused = await client.refusal(
        client.correct(generation, "Nebelsbad-on-Sea", request_id=request_id)
    )
    assert refused.reason == "REQUEST_ID_REUSED"
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_same_signal_without_a_request_id_is_a_duplicate(client, peers):
    generation = await peers.generate()
    first = await client.create(generation=generation, thumbs=1)
    refusal = await client.refusal(client.create(generation=generation, thumbs=1))

    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert refusal.reason == "FEEDBACK_DUPLICATE"
    assert len(await peers.recorded()) == 1
    other = await client.create(generation=generation, thumbs=2)
    assert other.feedback_event.name != first.feedback_event.name


async def test_names_of_other_tenants_are_not_found(client, peers):
    """Events and lessons are read within the tenant alone."""
    event = (await client.correct(await peers.generate(), "Lutz")).feedback_event
    client.tenant = "somebody-else"
    for reading in (client.event(event.name), client.lesson(event.lesson)):
        refused = await client.refusal(reading)
        assert refused.reason == "RESOURCE_NOT_FOUND"
