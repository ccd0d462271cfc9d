"""Requests of feedback_svc: every bound, and every violation at once."""

import math
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from feedback_svc import signals
from feedback_svc.render.events import render_signal
from feedback_svc.wire.checks import parse_adapter_filter, parse_name
from feedback_svc.wire.create import MAX_EXCHANGE_BYTES, parse_create, question_in, signal_of
from feedback_svc.wire.learning import parse_training_request
from selm import names
from selm.api.error.v1.error_reason_pb2 import Failure
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.feedback_service_pb2 import CreateFeedbackEventRequest
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.learning_service_pb2 import CreateTrainingRequestRequest
from selm.api.inference.v1.input_pb2 import ChatInput, ChatMessage, GenerationInput, Role
from selm.errors import InvalidFields
from selm.lessons import Consent

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GENERATION = "generations/g1"
CONVERSATION = "conversations/c1"
SIGNALS = {"thumbs", "rating", "correction", "preference", "comment", "implicit"}
IMPLICIT = pb.Implicit
EXCHANGE = pb.Exchange(input=GenerationInput(prompt="Capital?"), answer="Nebelsbad")
OUTPUT_ONLY = {
    "name": "feedbackEvents/e1",
    "state": 1,
    "kind": 3,
    "author": "x",
    "adapter_revision": "adapters/a/revisions/r1",
    "lesson": "lessons/l1",
    "sequence": 7,
    "findings": [pb.Finding(detail="x")],
    "redaction_count": 1,
    "failure": Failure(message="x"),
    "create_time": Timestamp(seconds=7),
    "reach": 1,
}


def request(request_id: str = "", **event) -> CreateFeedbackEventRequest:
    if "conversation" not in event:
        event.setdefault("generation", GENERATION)
    if not SIGNALS & set(event):
        event["correction"] = pb.Correction(text="Lutz")
    return CreateFeedbackEventRequest(
        feedback_event=pb.FeedbackEvent(**event), request_id=request_id
    )


def fields_of(bad: CreateFeedbackEventRequest) -> list[str]:
    with pytest.raises(InvalidFields) as caught:
        parse_create(bad, NOW)
    return [
        violation.field.removeprefix("feedback_event.") for violation in caught.value.violations
    ]


def test_a_correction_is_read_whole():
    """Everything a caller may say arrives."""
    correction = pb.Correction(text="Lutz", question="Capital?", paraphrases=["a", "b"])
    draft, key = parse_create(
        request(correction=correction, user="users/ada", consent=1, labels={"app": "x"}), NOW
    )
    assert draft.signal == signals.Correction("Lutz", "Capital?", ("a", "b"))
    assert (draft.user, draft.consent) == ("users/ada", Consent.MEMORY_ONLY)
    assert draft.labels == {"app": "x"}
    assert key is None


def test_an_empty_request_says_everything_that_is_required():
    """Target and signal, in one answer."""
    with pytest.raises(InvalidFields) as caught:
        parse_create(CreateFeedbackEventRequest(), NOW)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["feedback_event.target", "feedback_event.signal"]


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
        ({"preference": pb.Preference(rejected_text="b")}, "preference.chosen_text"),
        ({"preference": pb.Preference(chosen_text="é" * 4097)}, "preference.chosen_text"),
        (
            {"preference": pb.Preference(chosen_text="a", rejected_text=" ")},
            "preference.rejected_text",
        ),
        (
            {"preference": pb.Preference(chosen_text="a", rejected_text="é" * 4097)},
            "preference.rejected_text",
        ),
        ({"comment": pb.Comment()}, "comment.text"),
        ({"comment": pb.Comment(text="\t")}, "comment.text"),
        ({"comment": pb.Comment(text="é" * 2049)}, "comment.text"),
        ({"implicit": IMPLICIT()}, "implicit.action"),
        ({"implicit": IMPLICIT(action=9)}, "implicit.action"),
        ({"implicit": IMPLICIT(action=IMPLICIT.ACTION_EDITED)}, "implicit.edited_text"),
        (
            {"implicit": IMPLICIT(action=IMPLICIT.ACTION_EDITED, edited_text="é" * 4097)},
            "implicit.edited_text",
        ),
        (
            {"implicit": IMPLICIT(action=IMPLICIT.ACTION_COPIED, edited_text="a")},
            "implicit.edited_text",
        ),
        ({"generation": "g1"}, "generation"),
        ({"generation": ""}, "generation"),
        ({"conversation": "c1", "thumbs": 1}, "conversation"),
        ({"conversation": CONVERSATION}, "correction"),
        (
            {"conversation": CONVERSATION, "preference": pb.Preference(chosen_text="a")},
            "preference",
        ),
        ({"conversation": CONVERSATION, "thumbs": 1, "exchange": EXCHANGE}, "exchange"),
        ({"user": "ada"}, "user"),
        ({"user": "users/-"}, "user"),
        ({"adapter": "adapters/A"}, "adapter"),
        ({"consent": 9}, "consent"),
        ({"labels": {"a": "é" * 129}}, "labels[a]"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "labels"),
        ({"exchange": pb.Exchange(answer="x")}, "exchange.input"),
        (
            {"exchange": pb.Exchange(input=EXCHANGE.input, answer="x" * MAX_EXCHANGE_BYTES)},
            "exchange",
        ),
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
        assert parse_create(late, NOW)[0].event_time == NOW - age
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
    draft, _ = parse_create(request(rating=pb.Rating(value=value)), NOW)
    assert draft.signal == signals.Rating(value, 5.0)


@pytest.mark.parametrize("bad", ["x", "0b9c", "{" + str(uuid.uuid4()) + "}", uuid.uuid4().hex, "*"])
def test_a_request_id_is_a_uuid_in_its_usual_spelling(bad):
    """It becomes part of a key, so nothing else is let in."""
    assert fields_of(request(request_id=bad)) == ["request_id"]


@pytest.mark.parametrize("field", OUTPUT_ONLY)
def test_output_only_fields_do_not_make_a_request_different(field):
    """A caller may send back what it read; its own words are what counts."""
    request_id = str(uuid.uuid4())
    first = parse_create(request(request_id), NOW)
    assert first == parse_create(request(request_id.upper(), **{field: OUTPUT_ONLY[field]}), NOW)


def test_every_output_only_field_is_among_those():
    """The contract says which they are; a new one has to be ignored too."""
    asked = {"generation", "conversation", "exchange", "user", "adapter", "consent", "labels"}
    fields = set(pb.FeedbackEvent.DESCRIPTOR.fields_by_name)
    assert fields == asked | SIGNALS | set(OUTPUT_ONLY) | {"event_time"}


def test_the_digest_is_of_all_the_caller_said():
    """With or without a request_id; other words are another digest."""
    request_id = str(uuid.uuid4())
    with_id, key = parse_create(request(request_id), NOW)
    without, none = parse_create(request(), NOW)
    other, _ = parse_create(request(labels={"app": "x"}), NOW)
    assert with_id.digest == without.digest == key.digest
    assert none is None
    assert other.digest != without.digest


@pytest.mark.parametrize(
    ("event", "signal"),
    [
        ({"thumbs": 2}, signals.Thumbs.DOWN),
        ({"rating": pb.Rating(value=3, max_value=7)}, signals.Rating(3, 7)),
        ({"preference": pb.Preference(chosen_text="a")}, signals.Preference("a")),
        (
            {"preference": pb.Preference(chosen_text="a", rejected_text="b")},
            signals.Preference("a", "b"),
        ),
        # Equal texts are no violated bound: FEEDBACK_WITHOUT_CHANGE, once the answer is known.
        (
            {"preference": pb.Preference(chosen_text="a", rejected_text="a")},
            signals.Preference("a", "a"),
        ),
        ({"comment": pb.Comment(text="é" * 2048)}, signals.Comment("é" * 2048)),
        (
            {"implicit": IMPLICIT(action=IMPLICIT.ACTION_EDITED, edited_text="b")},
            signals.Implicit(signals.Action.EDITED, "b"),
        ),
        (
            {"implicit": IMPLICIT(action=IMPLICIT.ACTION_ABANDONED)},
            signals.Implicit(signals.Action.ABANDONED),
        ),
    ],
)
def test_every_signal_is_read(event, signal):
    """As asked and, rendered, as stored."""
    draft, _ = parse_create(request(**event), NOW)
    stored = pb.FeedbackEvent()
    render_signal(stored, draft.signal)
    assert draft.signal == signal_of(stored) == signal


def test_a_conversation_as_a_whole_can_be_judged():
    """By everything but what needs one answer."""
    draft, _ = parse_create(request(conversation=CONVERSATION, thumbs=1), NOW)
    assert (draft.target, draft.generation, draft.conversation) == (CONVERSATION, "", CONVERSATION)


def test_the_same_id_for_another_method_is_other_content():
    """A request_id stands for one request of one method."""
    request_id = str(uuid.uuid4())
    _, feedback = parse_create(request(request_id), NOW)
    wish = TrainingRequest(adapter="adapters/a-b")
    _, training = parse_training_request(
        CreateTrainingRequestRequest(training_request=wish, request_id=request_id)
    )
    assert feedback.digest != training.digest


def test_a_training_request_names_an_adapter_and_a_short_reason():
    """Both violations at once."""
    wish = TrainingRequest(adapter="a", reason="x" * 501)
    with pytest.raises(InvalidFields) as caught:
        parse_training_request(CreateTrainingRequestRequest(training_request=wish))
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["training_request.adapter", "training_request.reason"]


def test_names_are_required_and_well_formed():
    """An empty or foreign name is INVALID_FIELD, not NOT_FOUND."""
    assert parse_name(names.LESSON, "lessons/l1") == "lessons/l1"
    assert parse_adapter_filter("") == ""
    for bad in ("", "lesson/l1", "lessons/a/b"):
        with pytest.raises(InvalidFields):
            parse_name(names.LESSON, bad)


def test_the_question_is_the_last_user_message_or_the_prompt():
    """What a correction answers if it does not say so itself."""
    messages = [
        ChatMessage(role=Role.ROLE_USER, text="first"),
        ChatMessage(role=Role.ROLE_ASSISTANT, text="answer"),
        ChatMessage(role=Role.ROLE_USER, text="second"),
        ChatMessage(role=Role.ROLE_ASSISTANT, text="begun"),
    ]
    assert question_in(GenerationInput(chat=ChatInput(messages=messages))) == "second"
    assert question_in(GenerationInput(prompt="p")) == "p"
    assert question_in(GenerationInput()) == ""


@given(
    st.builds(
        pb.FeedbackEvent,
        generation=st.text(max_size=20),
        conversation=st.text(max_size=20),
        user=st.text(max_size=20),
        adapter=st.text(max_size=20),
        labels=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        rating=st.builds(pb.Rating, value=st.floats(), max_value=st.floats()),
        findings=st.lists(st.builds(pb.Finding, detail=st.text(max_size=5)), max_size=2),
    ),
    st.text(max_size=40),
)
def test_no_request_makes_the_parser_crash(event, request_id):
    """Anything is either read or refused with its fields."""
    bad = CreateFeedbackEventRequest(feedback_event=event, request_id=request_id)
    try:
        draft, _ = parse_create(bad, NOW)
    except InvalidFields as refused:
        assert refused.violations
    else:
        assert 0 <= draft.signal.value <= draft.signal.max_value
