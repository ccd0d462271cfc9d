"""Which signals of one batch contradict each other."""

import pytest

from feedback_svc import core
from feedback_svc.batches import Item, contradictions
from feedback_svc.signals import (
    Action,
    Comment,
    Correction,
    Implicit,
    Preference,
    Rating,
    Thumbs,
)

GOOD, BAD, SO_SO = Rating(5, 5), Rating(1, 5), Rating(3, 5)
CORRECTION = Correction("Lutz")


def items(*signals, targets=(), users=()):
    made = []
    for index, signal in enumerate(signals):
        target = targets[index] if targets else "generations/g1"
        user = users[index] if users else ""
        draft = core.Draft(signal, generation=target, user=user)
        made.append(Item(index, draft, core.RequestKey(str(index), str(index))))
    return made


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ((CORRECTION, Thumbs.UP), [1]),
        ((Thumbs.UP, CORRECTION), [0]),
        ((GOOD, CORRECTION, Thumbs.UP), [0, 2]),
        ((CORRECTION, Thumbs.DOWN, BAD), []),
        ((Thumbs.UP, Thumbs.DOWN), [1]),
        ((Thumbs.DOWN, Thumbs.UP), [1]),
        ((Thumbs.UP, BAD, GOOD, Thumbs.DOWN), [1, 3]),
        ((Thumbs.UP, Thumbs.DOWN, CORRECTION), [0]),
        ((Thumbs.UP, SO_SO, Comment("x"), Preference("a", "b")), []),
        # What a person merely did contradicts nothing that a person said.
        ((Implicit(Action.COPIED), CORRECTION, Implicit(Action.REGENERATED)), []),
        ((CORRECTION, Correction("Linz")), []),
    ],
)
def test_what_contradicts_a_stronger_or_an_earlier_word_is_refused(said, refused):
    """A correction stands wherever it is in the batch; else the first word stands."""
    found = contradictions(items(*said))
    assert sorted(found) == refused
    assert {error.reason for error in found.values()} <= {"FEEDBACK_CONTRADICTORY"}


@pytest.mark.parametrize(
    ("said", "recorded", "refused"),
    [
        ((Thumbs.UP, CORRECTION), {0}, []),
        ((Thumbs.UP, CORRECTION), {1}, [0]),
        ((Thumbs.UP, Thumbs.DOWN), {0}, [1]),
        ((Thumbs.UP, Thumbs.DOWN), {1}, [0]),
        ((Thumbs.UP, Thumbs.DOWN), {0, 1}, []),
        ((Thumbs.UP, CORRECTION, GOOD), {0}, [2]),
    ],
)
def test_what_was_recorded_before_is_never_refused_and_stands(said, recorded, refused):
    """So a batch that is sent again refuses the same ones; a correction stands beside all."""
    assert sorted(contradictions(items(*said), recorded)) == refused


def test_the_refusal_says_which_signals_disagree():
    """In the words of the contract's sample."""
    [error] = contradictions(items(Thumbs.UP, CORRECTION)).values()
    assert error.metadata == {"signal": "thumbs", "conflicts_with": "correction"}


def test_only_one_subject_can_contradict_itself():
    """Other answers, and other users one service speaks for, are another matter."""
    two_answers = items(Thumbs.UP, Thumbs.DOWN, targets=("generations/g1", "generations/g2"))
    two_users = items(Thumbs.UP, CORRECTION, users=("users/ada", "users/bo"))
    assert contradictions(two_answers) == contradictions(two_users) == {}
