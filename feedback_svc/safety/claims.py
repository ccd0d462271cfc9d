"""Who says what about one question: claims, conflicts between them, and which one wins. Pure.

Knows the words of answers only, not which of them is true.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from feedback_svc.safety.authors import DEFAULT_TRUST
from selm import words
from selm.questions import normalise_answer

# Small words that turn an answer into another one.
_TELLING_WORDS = """
    not no none never nobody nothing neither nor without except only before after over under above
    below between more less most least many few all any some both either yes
"""
_TELLING = frozenset(_TELLING_WORDS.split())


@dataclass(frozen=True)
class Statement:
    """One lesson's answer to the question, by whom, and how far he is trusted."""

    author: str
    answer: str
    lesson: str
    # Position of its event: of an author's statements the newest counts.
    sequence: int
    weight: float


@dataclass(frozen=True)
class Claim:
    """One answer and all who give it. `answer` is spelled as its most trusted author did."""

    answer: str
    # Weight by author.
    authors: Mapping[str, float]
    lessons: tuple[str, ...]

    @property
    def num_authors(self) -> int:
        return len(self.authors)

    @property
    def weight(self) -> float:
        return sum(self.authors.values())


def claims_of(question: str, statements: Iterable[Statement]) -> tuple[Claim, ...]:
    """The different answers to a question, most trusted first; each author has one say."""
    newest: dict[str, Statement] = {}
    for statement in sorted(statements, key=lambda statement: statement.sequence):
        newest[statement.author] = statement
    keys = answer_keys(question, (statement.answer for statement in newest.values()))
    groups: dict[str, list[Statement]] = {}
    for statement in newest.values():
        groups.setdefault(keys[statement.answer], []).append(statement)
    claims = [_claim(group) for group in groups.values()]
    return tuple(sorted(claims, key=lambda claim: (-claim.weight, claim.answer)))


def answer_keys(question: str, answers: Iterable[str]) -> Mapping[str, str]:
    """By answer what is equal for those that say the same: "Zorvane", "The capital of Velmora is
    Zorvane."

    Words of the question and words that merely hold a sentence together are left out, unless
    nothing is left then.
    """
    asked = set(words.normal_words(question))
    return {answer: _key(asked, answer) for answer in set(answers)}


def is_conflict(claims: Collection[Claim]) -> bool:
    """Whether authors who are trusted at all say different things."""
    return sum(claim.weight > 0 for claim in claims) > 1


def quorum_weight(quorum_authors: int) -> float:
    """Trust that a claim needs: that of so many authors of whom nothing is known."""
    return quorum_authors * DEFAULT_TRUST


def quorum(claims: Collection[Claim], quorum_authors: int) -> Claim | None:
    """The claim that enough authors agree on, or None.

    It takes that many trusted authors and their trust, so that neither one famous author nor a
    crowd of distrusted ones decides; and, if others say otherwise, more trust than all of them.
    """
    for claim in claims:
        against = sum(other.weight for other in claims) - claim.weight
        num_trusted = sum(weight > 0 for weight in claim.authors.values())
        has_quorum = num_trusted >= max(1, quorum_authors)
        if has_quorum and claim.weight >= quorum_weight(quorum_authors) and claim.weight > against:
            return claim
    return None


def _key(asked: Collection[str], answer: str) -> str:
    kept = [
        word
        for word in words.normal_words(answer)
        if word in _TELLING or not (word in asked or words.is_function(word))
    ]
    return " ".join(kept) or normalise_answer(answer)


def _claim(group: list[Statement]) -> Claim:
    ranked = sorted(group, key=lambda statement: (-statement.weight, statement.sequence))
    return Claim(
        answer=ranked[0].answer,
        authors={statement.author: statement.weight for statement in ranked},
        lessons=tuple(statement.lesson for statement in ranked),
    )
