"""What a person can say about an answer: one frozen noun per kind of feedback. Pure."""

from dataclasses import dataclass
from enum import IntEnum

# Shares of max_value from which on a rating counts as good, and up to which as bad.
_GOOD, _BAD = 0.8, 0.4


class Kind(IntEnum):
    """Which signal an event carries; numbers of the contract."""

    THUMBS = 1
    RATING = 2
    CORRECTION = 3
    PREFERENCE = 4
    COMMENT = 5
    IMPLICIT = 6


class Thumbs(IntEnum):
    """Approval or disapproval."""

    UP = 1
    DOWN = 2


@dataclass(frozen=True)
class Rating:
    """A number from 0 to max_value."""

    value: float
    max_value: float


@dataclass(frozen=True)
class Correction:
    """What should have been answered."""

    text: str
    question: str = ""
    paraphrases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preference:
    """Which of two answers is better. `rejected` is empty only until composed."""

    chosen: str
    rejected: str = ""


@dataclass(frozen=True)
class Comment:
    """Words for people."""

    text: str


class Action(IntEnum):
    """What a user did with an answer."""

    REGENERATED = 1
    EDITED = 2
    COPIED = 3
    ABANDONED = 4


@dataclass(frozen=True)
class Implicit:
    """What the user did; `edited_text` is the result of an edit."""

    action: Action
    edited_text: str = ""


Signal = Thumbs | Rating | Correction | Preference | Comment | Implicit

_KINDS: dict[type, Kind] = {
    Thumbs: Kind.THUMBS,
    Rating: Kind.RATING,
    Correction: Kind.CORRECTION,
    Preference: Kind.PREFERENCE,
    Comment: Kind.COMMENT,
    Implicit: Kind.IMPLICIT,
}


def kind_of(signal: Signal) -> Kind:
    return _KINDS[type(signal)]


def texts_of(signal: Signal) -> dict[str, str]:
    """What a person wrote, by the field of the event that holds it."""
    match signal:
        case Correction():
            texts = {"correction.question": signal.question, "correction.text": signal.text}
            for index, paraphrase in enumerate(signal.paraphrases):
                texts[f"correction.paraphrases[{index}]"] = paraphrase
            return texts
        case Preference():
            return {
                "preference.chosen_text": signal.chosen,
                "preference.rejected_text": signal.rejected,
            }
        case Comment():
            return {"comment.text": signal.text}
        case Implicit():
            return {"implicit.edited_text": signal.edited_text}
    return {}


def with_texts(signal: Signal, texts: dict[str, str]) -> Signal:
    """The signal with these texts in the place of its own; the inverse of texts_of."""
    match signal:
        case Correction():
            paraphrases = tuple(
                texts[f"correction.paraphrases[{index}]"]
                for index in range(len(signal.paraphrases))
            )
            return Correction(texts["correction.text"], texts["correction.question"], paraphrases)
        case Preference():
            return Preference(texts["preference.chosen_text"], texts["preference.rejected_text"])
        case Comment():
            return Comment(texts["comment.text"])
        case Implicit():
            return Implicit(signal.action, texts["implicit.edited_text"])
    return signal


def is_good(signal: Signal) -> bool | None:
    """Whether the signal calls the answer good; None if it says neither."""
    match signal:
        case Thumbs():
            return signal is Thumbs.UP
        case Rating():
            share = signal.value / signal.max_value
            return True if share >= _GOOD else False if share <= _BAD else None
        case Implicit():
            return signal.action is Action.COPIED if signal.action is not Action.EDITED else None
    return None
