"""Where authors stand on one subject: which claim wins, by whom, and how far each event goes. Pure.

With a quorum of one nothing is withheld and the newest says how it is. A reviewer's word holds
until its claim has no trusted author left, or as many as make a quorum say otherwise since.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from feedback_svc.core import FeedbackRecord
from feedback_svc.reviewing import QUORUM
from feedback_svc.safety.claims import (
    Claim,
    Statement,
    answer_keys,
    claims_of,
    is_conflict,
    quorum,
)
from feedback_svc.signals import Correction
from selm.lessons import Consent


@dataclass(frozen=True)
class Resolution:
    """A reviewer's choice, by id: its words are its authors'. `sequence` is the newest he knew."""

    claim_id: str
    resolver: str
    reason: str
    sequence: int


@dataclass(frozen=True)
class Standing:
    """The claims about a subject, and the one that wins."""

    question: str
    statements: tuple[Statement, ...]
    claims: tuple[Claim, ...]
    winner: Claim | None = None
    # Empty while nobody won.
    resolver: str = ""

    @property
    def is_conflict(self) -> bool:
        return is_conflict(self.claims)

    def id_of(self, claim: Claim) -> str:
        """The same as long as the claim says the same."""
        return hashlib.sha256(self._key(claim.answer).encode()).hexdigest()[:16]

    def answer_of(self, record: FeedbackRecord) -> str:
        return _answer(record)

    def supports(self, claim: Claim, answer: str) -> bool:
        """Whether an answer says what the claim does."""
        return self._key(answer) == self._key(claim.answer)

    def _key(self, answer: str) -> str:
        # Of what was said since they were weighed none is known yet.
        return self._keys.get(answer) or answer_keys(self.question, [answer])[answer]

    @cached_property
    def _keys(self) -> Mapping[str, str]:
        return answer_keys(self.question, (said.answer for said in self.statements))


def stand(
    records: Sequence[FeedbackRecord],
    trust_of: Callable[[str], float],
    quorum_authors: int,
    resolution: Resolution | None,
) -> Standing:
    """Where the authors of these corrections, oldest first, stand."""
    question = _question(records[0])
    statements = tuple(
        Statement(r.author, _answer(r), r.lesson, r.sequence, trust_of(r.author)) for r in records
    )
    claims = claims_of(question, statements)
    standing = Standing(question, statements, claims)
    if resolution is not None:
        chosen = _still_chosen(standing, resolution, quorum_authors)
        if chosen is not None:
            return Standing(question, statements, claims, chosen, resolution.resolver)
    winner = _newest(standing) if quorum_authors <= 1 else quorum(claims, quorum_authors)
    return Standing(question, statements, claims, winner, QUORUM if winner else "")


def reaches(
    records: Sequence[FeedbackRecord], standing: Standing, quorum_authors: int
) -> Iterator[tuple[FeedbackRecord, Consent]]:
    """The events whose reach has to change, and what it shall be."""
    newest = {statement.author: statement for statement in standing.statements}
    trusted = {author for claim in standing.claims for author, w in claim.authors.items() if w > 0}
    for record in records:
        is_newest = newest[record.author].lesson == record.lesson
        reach = _reach(record, standing, quorum_authors, is_newest=is_newest)
        may_widen = record.author in trusted
        if reach != record.reach and (may_widen or reach < record.reach):
            yield record, reach


def _reach(
    record: FeedbackRecord, standing: Standing, quorum_authors: int, *, is_newest: bool
) -> Consent:
    winner = standing.winner
    if winner is None:
        # What was let in before anybody asked for a quorum stays, unless somebody contradicts.
        was_by_quorum = record.decision is not None and record.decision.decider == QUORUM
        is_held = standing.is_conflict or was_by_quorum
        return Consent.PRIVATE_ADAPTER if is_held else record.reach
    if quorum_authors <= 1 and standing.resolver == QUORUM:
        return Consent.SHARED_ADAPTER
    if not standing.supports(winner, _answer(record)):
        return Consent.PRIVATE_ADAPTER
    return Consent.SHARED_ADAPTER if is_newest else record.reach


def _still_chosen(standing: Standing, resolution: Resolution, quorum_authors: int) -> Claim | None:
    chosen = next(
        (c for c in standing.claims if c.weight > 0 and standing.id_of(c) == resolution.claim_id),
        None,
    )
    if chosen is None:
        return None
    since = [s for s in standing.statements if s.sequence > resolution.sequence]
    others = [s for s in since if not standing.supports(chosen, s.answer)]
    is_overruled = quorum(claims_of(standing.question, others), quorum_authors) is not None
    return None if is_overruled else chosen


def _newest(standing: Standing) -> Claim | None:
    trusted = [statement for statement in standing.statements if statement.weight > 0]
    if not trusted:
        return None
    answer = max(trusted, key=lambda statement: statement.sequence).answer
    return next((c for c in standing.claims if standing.supports(c, answer)), None)


def _question(record: FeedbackRecord) -> str:
    assert isinstance(record.signal, Correction)
    return record.signal.question


def _answer(record: FeedbackRecord) -> str:
    assert isinstance(record.signal, Correction)
    return record.signal.text
