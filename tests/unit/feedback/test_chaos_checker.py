"""The history checker of the chaos run finds each kind of broken promise, and no other."""

from dataclasses import replace

import pytest

from tests.feedback_chaos.checker import check
from tests.feedback_chaos.history import Answer, Attempt, Content, History, Outcome, Saying, Stored
from tests.feedback_chaos.plan import FULL, SHORT, is_correction, make_plan

_NUM_CLIENTS = 2
_NUM_SAYINGS = 5


def _saying(client: int, number: int) -> Saying:
    content = Content(f"users/{client}", "generations/g", f"rating {number} of 5")
    return Saying(client, number, f"request-{client}-{number}", content)


def _history() -> History:
    """Two clients whose sayings were all acknowledged, at the second attempt."""
    history = History()
    for number in range(_NUM_SAYINGS):
        for client in range(_NUM_CLIENTS):
            saying = _saying(client, number)
            history.begin(saying)
            history.add(Attempt(saying.label, number, number + 0.5, Outcome.UNKNOWN))
            _acknowledge(history, saying.label, 10 + number * _NUM_CLIENTS + client)
    return history


def _acknowledge(history: History, label: str, sequence: int) -> None:
    answer = Answer(f"feedbackEvents/{label}", sequence)
    history.add(Attempt(label, 20, 21, Outcome.OK, answer))


def _stored(history: History) -> list[Stored]:
    """What a stream holds that kept every promise."""
    return [
        _at(history.sayings[label], answer.sequence)
        for label, answer in history.acknowledged.items()
    ]


def _at(saying: Saying, sequence: int) -> Stored:
    name = f"feedbackEvents/{saying.label}"
    return Stored(sequence, f"subject.{saying.client}", name, saying.label, saying.content)


def _kinds(history: History, stored: list[Stored]) -> set[str]:
    return {violation.kind for violation in check(history, stored)}


def test_a_kept_promise_is_no_violation():
    """However the stream was read, and though every first attempt had no answer."""
    history = _history()
    assert check(history, _stored(history)) == []
    assert check(history, _stored(history)[::-1]) == []


def test_an_unknown_outcome_is_stored_once_or_not():
    """The last saying of a client may have no answer."""
    history, last = _history(), _saying(0, _NUM_SAYINGS)
    history.begin(last)
    history.add(Attempt(last.label, 30, 31, Outcome.UNKNOWN))
    stored = _stored(history)
    assert check(history, stored) == []
    assert check(history, [*stored, _at(last, 30)]) == []
    assert _kinds(history, [*stored, _at(last, 30), _at(last, 31)]) == {"doubled"}


@pytest.mark.parametrize("index", [0, 4, 9])
def test_a_lost_event_is_found(index):
    history = _history()
    stored = _stored(history)
    del stored[index]
    assert _kinds(history, stored) == {"lost"}


def test_a_doubled_event_is_found():
    """By its name, and by what was said if the second has another name."""
    history = _history()
    stored = _stored(history)
    again = replace(stored[-1], sequence=30)
    assert _kinds(history, [*stored, again]) == {"doubled"}
    renamed = replace(again, name="feedbackEvents/other")
    assert _kinds(history, [*stored, renamed]) == {"doubled"}


def test_an_invented_event_is_found():
    """Under a label that nobody used, and under none."""
    history = _history()
    for label in ("7-7", ""):
        invented = replace(_at(_saying(7, 7), 30), label=label)
        assert _kinds(history, [*_stored(history), invented]) == {"invented"}


def test_an_altered_event_is_found():
    """Same name and place, other content."""
    history = _history()
    stored = _stored(history)
    stored[3] = replace(stored[3], content=replace(stored[3].content, signal="rating 0 of 5"))
    assert _kinds(history, stored) == {"altered"}


def test_a_reordered_event_is_found():
    """Both answers name the places where the events stand, so the order alone is wrong."""
    history = History()
    for number, sequence in ((0, 10), (1, 12), (2, 11)):
        history.begin(_saying(0, number))
        _acknowledge(history, f"0-{number}", sequence)
    assert _kinds(history, _stored(history)) == {"reordered"}


def test_a_subject_with_two_speakers_is_found():
    history = _history()
    stored = [replace(event, subject="subject.same") for event in _stored(history)]
    assert "reordered" in _kinds(history, stored)


def test_an_answer_that_changes_is_found():
    """A repeat gets the same name and place, and they are those of the stream."""
    history = _history()
    stored = _stored(history)
    _acknowledge(history, "0-3", 99)
    assert _kinds(history, stored) == {"unequal"}
    history = _history()
    stored[0] = replace(stored[0], sequence=1)
    assert _kinds(history, stored) == {"unequal"}


def test_a_definite_no_is_found_and_must_be_true():
    """Nobody says what may not be said; what was refused may not be stored either."""
    history, saying = _history(), _saying(0, _NUM_SAYINGS)
    history.begin(saying)
    history.add(Attempt(saying.label, 30, 31, Outcome.FAIL, reason="INVALID_FIELD"))
    assert _kinds(history, _stored(history)) == {"refused"}
    assert _kinds(history, [*_stored(history), _at(saying, 30)]) == {"refused", "altered"}


@pytest.mark.parametrize("sizes", [SHORT, FULL])
def test_a_plan_is_made_by_its_seed(sizes):
    """The same again, and another one; ids and contents of all sayings differ."""
    plan = make_plan(3, sizes)
    assert plan == make_plan(3, sizes)
    assert plan.kills != make_plan(4, sizes).kills
    sayings = [turn.saying for client in plan.turns for turn in client]
    assert len(sayings) == sizes.num_events
    assert len({saying.request_id for saying in sayings}) == len(sayings)
    assert len({saying.content for saying in sayings}) == len(sayings)
    taught = [saying.content.signal for saying in sayings if is_correction(saying)]
    assert 0 < len(set(taught)) == len(taught) <= sizes.num_events / 10
    assert {step.what for step in plan.kills} == sizes.kills.keys()
