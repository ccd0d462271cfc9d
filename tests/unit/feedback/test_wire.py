"""Requests of feedback_svc: every bound, and every violation at once."""

import math
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_svc import core, wire
from selm import names
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.feedback_service_pb2 import CreateFeedbackEventRequest
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.learning_service_pb2 import CreateTrainingRequestRequest
from selm.api.inference.v1.input_pb2 import ChatInput, ChatMessage, GenerationInput, Role
from selm.errors import InvalidFields
from selm.lessons import Consent

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GENERATION = "generations/g1"


def request(request_id: str = "", **event) -> CreateFeedbackEventRequest:
    event.setdefault("generation", GENERATION)
    if not {"thumbs", "rating", "correction"} & set(event):
        event["correction"] = pb.Correction(text="Lutz")
    return CreateFeedbackEventRequest(
        feedback_event=pb.FeedbackEvent(**event), request_id=request_id
    )


def fields_of(bad: CreateFeedbackEventRequest) -> list[str]:
    with pytest.raises(InvalidFields) as caught:
        wire.parse_create(bad, NOW)
    return [
        violation.field.removeprefix("feedback_event.") for violation in caught.value.violations
    ]


def test_a_correction_is_read_whole():
    """Everything a caller may say arrives."""
    correction = pb.Correction(text="Lutz", question="Capital?", paraphrases=["a", "b"])
    draft, key = wire.parse_create(
        request(correction=correction, user="users/ada", consent=1, labels={"app": "x"}), NOW
    )
    assert draft.signal == core.Correction("Lutz", "Capital?", ("a", "b"))
    assert (draft.user, draft.consent) == ("users/ada", Consent.MEMORY_ONLY)
    assert draft.labels == {"app": "x"}
    assert key is None


def test_an_empty_request_says_everything_that_is_required():
    """Target and signal, in one answer."""
    with pytest.raises(InvalidFields) as caught:
        wire.parse_create(CreateFeedbackEventRequest(), NOW)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["feedback_event.generation", "feedback_event.signal"]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"thumbs": 0}, "thumbs"),
        ({"thumbs": 7}, "thumbs"),
        ({"rating": pb.Rating(value=math.nan)}, "rating.value"),
        ({"rating": pb.Rating(value=math.inf)}, "rating.value"),
        ({"rating": pb.Rating(value=5.1)}, "rating.value"),
        ({"rating": pb.Rating(value=-0.1)}, "rating.value"),
        ({"rating": pb.Rating(value=1, max_value=-1)}, "rating.max_value"),
        ({"rating": pb.Rating(value=1, max_value=math.nan)}, "rating.max_value"),
        ({"correction": pb.Correction(text="")}, "correction.text"),
        ({"correction": pb.Correction(text=" \n")}, "correction.text"),
        ({"correction": pb.Correction(text="é" * 4097)}, "correction.text"),
        ({"correction": pb.Correction(text="a", question=" ")}, "correction.question"),
        ({"correction": pb.Correction(text="a", question="é" * 2049)}, "correction.question"),
        ({"correction": pb.Correction(text="a", paraphrases=["a"] * 17)}, "correction.paraphrases"),
        (
            {"correction": pb.Correction(text="a", paraphrases=["ok", ""])},
            "correction.paraphrases[1]",
        ),
        ({"correction": pb.Correction(text="a", candidate_index=1)}, "correction.candidate_index"),
        ({"generation": "g1"}, "generation"),
        ({"user": "ada"}, "user"),
        ({"user": "users/-"}, "user"),
        ({"adapter": "adapters/A"}, "adapter"),
        ({"consent": 9}, "consent"),
        ({"labels": {"a": "é" * 129}}, "labels[a]"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "labels"),
        ({"exchange": pb.Exchange(answer="x")}, "exchange.input"),
    ],
)
def test_each_bound_is_kept(event, field):
    """One violation, naming the field that breaks its bound."""
    assert fields_of(request(**event)) == [field]


def test_an_exchange_is_checked_message_by_message():
    """What the caller says was asked has to be something one can ask."""
    messages = [ChatMessage(role=Role.ROLE_USER), ChatMessage(text="hi")]
    exchange = pb.Exchange(input=GenerationInput(chat=ChatInput(messages=messages)))
    assert fields_of(request(exchange=exchange)) == [
        "exchange.input.chat.messages[0].text",
        "exchange.input.chat.messages[1].role",
        "exchange.answer",
    ]


@pytest.mark.parametrize(
    ("age", "is_fit"),
    [
        (timedelta(0), True),
        (timedelta(days=30), True),
        (timedelta(days=30, seconds=1), False),
        (timedelta(seconds=-60), True),
        (timedelta(seconds=-61), False),
    ],
)
def test_late_feedback_may_be_thirty_days_old(age, is_fit):
    """And a clock may run a minute ahead."""
    late = request()
    late.feedback_event.event_time.FromDatetime(NOW - age)
    if is_fit:
        assert wire.parse_create(late, NOW)[0].event_time == NOW - age
    else:
        assert fields_of(late) == ["event_time"]


def test_a_time_out_of_range_is_a_violation_and_no_crash():
    """Timestamps can hold numbers that are no time."""
    bad = request()
    bad.feedback_event.event_time.seconds = 2**62
    assert fields_of(bad) == ["event_time"]


@pytest.mark.parametrize("value", [0.0, 2.5, 5.0])
def test_a_rating_is_out_of_five_by_default(value):
    """max_value 0 means 5."""
    draft, _ = wire.parse_create(request(rating=pb.Rating(value=value)), NOW)
    assert draft.signal == core.Rating(value, 5.0)


@pytest.mark.parametrize("bad", ["x", "0b9c", "{" + str(uuid.uuid4()) + "}", uuid.uuid4().hex, "*"])
def test_a_request_id_is_a_uuid_in_its_usual_spelling(bad):
    """It becomes part of a key, so nothing else is let in."""
    assert fields_of(request(request_id=bad)) == ["request_id"]


def test_output_only_fields_do_not_make_a_request_different():
    """A caller may send back what it read; its own words are what counts."""
    request_id = str(uuid.uuid4())
    _, first = wire.parse_create(request(request_id), NOW)
    _, second = wire.parse_create(request(request_id.upper(), name="x", sequence=7), NOW)
    _, other = wire.parse_create(request(request_id, correction=pb.Correction(text="x")), NOW)
    assert first == second
    assert first.digest != other.digest


def test_the_same_id_for_another_method_is_other_content():
    """A request_id stands for one request of one method."""
    request_id = str(uuid.uuid4())
    _, feedback = wire.parse_create(request(request_id), NOW)
    wish = TrainingRequest(adapter="adapters/a-b")
    _, training = wire.parse_training_request(
        CreateTrainingRequestRequest(training_request=wish, request_id=request_id)
    )
    assert feedback.digest != training.digest


def test_a_training_request_names_an_adapter_and_a_short_reason():
    """Both violations at once."""
    wish = TrainingRequest(adapter="a", reason="x" * 501)
    with pytest.raises(InvalidFields) as caught:
        wire.parse_training_request(CreateTrainingRequestRequest(training_request=wish))
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["training_request.adapter", "training_request.reason"]


def test_names_are_required_and_well_formed():
    """An empty or foreign name is INVALID_FIELD, not NOT_FOUND."""
    assert wire.parse_name(names.LESSON, "lessons/l1") == "lessons/l1"
    assert wire.parse_adapter_filter("") == ""
    for bad in ("", "lesson/l1", "lessons/a/b"):
        with pytest.raises(InvalidFields):
            wire.parse_name(names.LESSON, bad)


def test_the_question_is_the_last_user_message_or_the_prompt():
    """What a correction answers if it does not say so itself."""
    messages = [
        ChatMessage(role=Role.ROLE_USER, text="first"),
        ChatMessage(role=Role.ROLE_ASSISTANT, text="answer"),
        ChatMessage(role=Role.ROLE_USER, text="second"),
        ChatMessage(role=Role.ROLE_ASSISTANT, text="begun"),
    ]
    assert wire.question_in(GenerationInput(chat=ChatInput(messages=messages))) == "second"
    assert wire.question_in(GenerationInput(prompt="p")) == "p"
    assert wire.question_in(GenerationInput()) == ""


@given(
    st.builds(
        pb.FeedbackEvent,
        generation=st.text(max_size=20),
        user=st.text(max_size=20),
        adapter=st.text(max_size=20),
        labels=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        rating=st.builds(pb.Rating, value=st.floats(), max_value=st.floats()),
    ),
    st.text(max_size=40),
)
def test_no_request_makes_the_parser_crash(event, request_id):
    """Anything is either read or refused with its fields."""
    bad = CreateFeedbackEventRequest(feedback_event=event, request_id=request_id)
    try:
        draft, _ = wire.parse_create(bad, NOW)
    except InvalidFields as refused:
        assert refused.violations
    else:
        assert 0 <= draft.signal.value <= draft.signal.max_value
