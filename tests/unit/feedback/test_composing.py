"""What an event is made of: defaults from its generation, ids from its request."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from feedback_svc import composing, core, signals
from selm.errors import InvalidFields, SelmError
from selm.lessons import Consent

NOW = datetime(2030, 1, 1, tzinfo=UTC)
EXCHANGE = core.Exchange(b"input", "Capital of Zubrowka?", "It is Nebelsbad.")
GENERATION = core.GenerationRecord(
    name="generations/g1",
    user="users/ada",
    adapter="adapters/support",
    adapter_revision="adapters/support/revisions/r1",
    exchange=EXCHANGE,
)
DRAFT = core.Draft(generation="generations/g1", signal=signals.Correction("Lutz"))


def compose(draft=DRAFT, generation=GENERATION):
    consent = Consent.MEMORY_ONLY
    return composing.compose("default", "anonymous", "e1", draft, generation, consent, NOW)


def test_defaults_come_from_the_generation():
    """User, adapter, revision and question; consent from the deployment."""
    record, exchange = compose()
    assert (record.user, record.adapter) == ("users/ada", "adapters/support")
    assert record.adapter_revision == "adapters/support/revisions/r1"
    assert record.signal == signals.Correction("Lutz", "Capital of Zubrowka?")
    assert record.consent is Consent.MEMORY_ONLY
    assert record.event_time == record.create_time == NOW
    assert exchange is EXCHANGE


def test_what_the_caller_says_wins():
    """Over every default."""
    signal = signals.Correction("Lutz", "Which town?", ("Town?",))
    draft = core.Draft(
        generation="generations/g1",
        signal=signal,
        user="users/bob",
        adapter="adapters/other",
        consent=Consent.SHARED_ADAPTER,
    )
    record, _ = compose(draft, replace(GENERATION, user="users/anonymous"))
    assert (record.user, record.adapter) == ("users/bob", "adapters/other")
    assert (record.signal, record.consent) == (signal, Consent.SHARED_ADAPTER)


def test_what_one_user_asked_is_never_kept_as_anothers():
    """The exchange would stand under a name that an erasure of its user does not look at."""
    draft = replace(DRAFT, user="users/bob")
    with pytest.raises(InvalidFields) as caught:
        compose(draft)
    assert [v.field for v in caught.value.violations] == ["feedback_event.user"]


def test_without_any_user_or_adapter_the_defaults_of_the_house_hold():
    """A generation of the base model, for nobody in particular."""
    bare = core.GenerationRecord("generations/g1", "", "", "", EXCHANGE)
    record, _ = compose(generation=bare)
    assert (record.user, record.adapter) == ("users/anonymous", "adapters/default")


@pytest.mark.parametrize("text", ["It is Nebelsbad.", "it is  nebelsbad", "IT IS NEBELSBAD!"])
def test_a_correction_equal_to_the_answer_is_refused(text):
    """Case, spacing and punctuation teach nothing."""
    with pytest.raises(SelmError) as caught:
        compose(core.Draft(generation="generations/g1", signal=signals.Correction(text)))
    assert caught.value.reason == "FEEDBACK_WITHOUT_CHANGE"


def test_a_generation_without_text_needs_the_callers_exchange():
    """And takes it only then: what was stored is the truth."""
    bare = core.GenerationRecord("generations/g1", "", "", "", None)
    with pytest.raises(SelmError) as caught:
        compose(generation=bare)
    assert caught.value.reason == "GENERATION_NOT_STORED"
    own = core.Exchange(b"own", "Town?", "Nebelsbad")
    draft = core.Draft(generation="generations/g1", signal=signals.Correction("Lutz"), exchange=own)
    assert compose(draft, bare)[1] is own
    assert compose(draft)[1] is EXCHANGE


def test_a_correction_without_any_question_is_refused():
    """Nobody could tell later what it answers."""
    mute = core.GenerationRecord("g", "", "", "", core.Exchange(b"", "", "No idea."))
    with pytest.raises(InvalidFields):
        compose(generation=mute)


def test_a_question_of_the_input_is_as_short_as_a_memory_allows():
    """A whole document is no question; a shorter one, given explicitly, is taken instead."""
    fitting = core.Exchange(b"", "é" * 2048, "No idea.")
    assert (
        compose(generation=replace(GENERATION, exchange=fitting))[0].signal.question == "é" * 2048
    )
    long = replace(GENERATION, exchange=core.Exchange(b"", "é" * 2048 + "?", "No idea."))
    with pytest.raises(InvalidFields) as caught:
        compose(generation=long)
    [violation] = caught.value.violations
    assert violation.field == "feedback_event.correction.question"
    assert "give a shorter question" in violation.description
    given = core.Draft(generation="generations/g1", signal=signals.Correction("Lutz", "Capital?"))
    assert compose(given, long)[0].signal.question == "Capital?"
    thumbs = core.Draft(generation="generations/g1", signal=signals.Thumbs.UP)
    assert compose(thumbs, long)[0].signal is signals.Thumbs.UP


def test_ids_are_derived_from_the_request_and_the_tenant():
    """The same request gives the same event everywhere, for each tenant its own."""
    request_id = "0b9cd9f2-6c3f-4a3e-9f70-0d6a1f3f9f10"
    event = composing.event_id("default", request_id)
    assert event == composing.event_id("default", request_id)
    assert event != composing.event_id("other", request_id)
    assert composing.lesson_id(event) == composing.lesson_id(event) != event
    assert composing.event_id("default", "") != composing.event_id("default", "")


def test_only_a_correction_becomes_a_lesson():
    """Thumbs and ratings are recorded without one."""
    assert compose()[0].lesson.startswith("lessons/")
    for signal in (signals.Thumbs.DOWN, signals.Rating(1, 5)):
        assert compose(core.Draft(generation="generations/g1", signal=signal))[0].lesson == ""


def test_a_preference_is_against_the_answer_unless_it_says_what():
    """And refused where both texts say the same."""
    against_answer = core.Draft(signals.Preference("Lutz"), generation="generations/g1")
    assert compose(against_answer)[0].signal == signals.Preference("Lutz", "It is Nebelsbad.")
    own = core.Draft(signals.Preference("Lutz", "Linz"), generation="generations/g1")
    assert compose(own)[0].signal == signals.Preference("Lutz", "Linz")
    for equal in (signals.Preference("it is  nebelsbad"), signals.Preference("Lutz", "LUTZ!")):
        with pytest.raises(SelmError) as caught:
            compose(core.Draft(equal, generation="generations/g1"))
        assert caught.value.reason == "FEEDBACK_WITHOUT_CHANGE"
        assert caught.value.metadata == {"signal": "preference"}


def test_a_conversation_has_no_exchange_and_no_lesson():
    """What is said of it is kept under the names of the house."""
    draft = core.Draft(signals.Comment("Too long."), conversation="conversations/c1", digest="d1")
    record, exchange = compose(draft, None)
    assert exchange is None
    assert (record.target, record.generation) == ("conversations/c1", "")
    assert (record.user, record.adapter) == ("users/anonymous", "adapters/default")
    assert (record.lesson, record.digest) == ("", "d1")


@pytest.mark.parametrize(
    ("given", "asked", "is_own"),
    [
        ("", "users/ada", True),
        ("users/ada", "users/ada", True),
        ("users/ada", "users/anonymous", True),
        ("users/ada", "", True),
        ("", "users/bob", False),
        ("users/ada", "users/bob", False),
        ("users/bob", "users/bob", False),
        ("users/bob", "users/ada", False),
        ("", "users/anonymous", False),
    ],
)
def test_who_may_not_write_for_all_writes_for_their_own_user(given, asked, is_own):
    """Whether the user was given, or is the one who asked."""
    draft = replace(DRAFT, user=given, only_for="users/ada")
    generation = replace(GENERATION, user=asked)
    if is_own:
        assert compose(draft, generation)[0].user == "users/ada"
    else:
        with pytest.raises(SelmError, match="SCOPE_MISSING") as refused:
            compose(draft, generation)
        assert refused.value.metadata == {"scope": "feedback.write_all"}
