"""Gives each event the reach that its authors' agreement allows, beside the calls.

Whatever this does follows from the stream and the buckets, so any replica may do it, after any
crash; two that do the same at once are one decision.
"""

import asyncio
from datetime import UTC, datetime

from feedback_svc import core, learning
from feedback_svc.review.authors import AuthorBook
from feedback_svc.review.book import ReviewBook, Subject
from feedback_svc.review.resolutions import ResolutionBook
from feedback_svc.review.standing import Standing, reaches, stand
from feedback_svc.reviewing import QUORUM
from feedback_svc.stream.deciding import Decider
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from selm.errors import SelmError
from selm.lessons import Consent, LessonState, LessonStep
from selm.log import get_logger

_log = get_logger("feedback_svc.quorum")

# Policies change without news, and what failed is tried again.
_SWEEP_INTERVAL_S = 5.0
# Somebody else decided, or the event was purged: the news of it comes by itself.
_HARMLESS = frozenset({"STATE_CONFLICT", "RESOURCE_NOT_FOUND"})


class Quorum:
    """Where the authors of each subject stand, and what follows from it."""

    def __init__(
        self,
        book: ReviewBook,
        authors: AuthorBook,
        resolutions: ResolutionBook,
        policies: learning.Policies,
    ) -> None:
        self.book = book
        self.resolutions = resolutions
        self._authors = authors
        self._policies = policies

    @property
    def is_ready(self) -> bool:
        return self._authors.bucket.is_ready and self.resolutions.bucket.is_ready

    def quorum_authors(self, subject: Subject) -> int:
        return self._policies.policy_of(subject.tenant, subject.adapter).quorum_authors

    def standing(self, subject: Subject) -> Standing | None:
        """None if nobody says anything about it."""
        records = self.book.statements(subject)
        if not records:
            return None
        return stand(
            records,
            lambda author: self._authors.trust_of(subject.tenant, author),
            self.quorum_authors(subject),
            self.resolutions.find(subject),
        )

    def is_settled(self, subject: Subject) -> bool:
        """Nothing can have to change: the common case, told without looking at the words."""
        records = self.book.statements(subject)
        return (
            len(records) < 2
            and self.quorum_authors(subject) <= 1
            and all(record.reach >= Consent.SHARED_ADAPTER for record in records)
        )


class QuorumLoop:
    """Widens and narrows; see Quorum."""

    def __init__(
        self, quorum: Quorum, decider: Decider, stream: EventStream, journal: Journal
    ) -> None:
        self._quorum = quorum
        self._decider = decider
        self._stream = stream
        self._journal = journal

    async def run(self, interval_s: float) -> None:
        """Runs until cancelled: subjects with news at once, all of them now and then."""
        clock = asyncio.get_running_loop().time
        next_sweep = 0.0
        while True:
            await asyncio.sleep(interval_s)
            if not (self._journal.is_ready and self._quorum.is_ready and self._stream.is_connected):
                continue
            news = self._quorum.book.news
            if clock() >= next_sweep:
                next_sweep = clock() + _SWEEP_INTERVAL_S
                news.update(self._quorum.book.subjects())
            while news:
                subject = news.pop()
                await self._settle_or_wait(subject)
                # A sweep over many subjects leaves room for calls.
                await asyncio.sleep(0)

    async def settle(self, subject: Subject) -> None:
        """Make of the events about a subject what its authors' standing asks for."""
        standing = self._quorum.standing(subject)
        if standing is None:
            return
        records = self._quorum.book.statements(subject)
        resolution = self._quorum.resolutions.find(subject)
        is_chosen = standing.resolver not in ("", QUORUM)
        reason = _reason(standing, resolution.reason if resolution and is_chosen else "")
        for record, reach in reaches(records, standing, self._quorum.quorum_authors(subject)):
            # Also where a reviewer chose: it changes how far an event goes, not whether it counts.
            decision = core.Decision(QUORUM, reason, datetime.now(UTC))
            await self._decider.decide(record, core.Change(decision, reach=reach))
        if resolution is not None and is_chosen:
            await self._supersede(subject, standing, resolution.sequence, reason)

    async def _supersede(
        self, subject: Subject, standing: Standing, until: int, reason: str
    ) -> None:
        """End the lessons that a reviewer decided against; what was said since is not his."""
        assert standing.winner is not None
        winning = standing.winner.lessons[0]
        for record in self._quorum.book.statements(subject):
            said = standing.answer_of(record)
            if record.sequence > until or standing.supports(standing.winner, said):
                continue
            lesson = self._journal.book.find(subject.tenant, record.lesson)
            if lesson is not None and not lesson.is_final:
                step = LessonStep(
                    LessonState.SUPERSEDED, core.SERVICE, winning, reason, datetime.now(UTC)
                )
                await self._stream.announce_step(lesson, step)

    async def _settle_or_wait(self, subject: Subject) -> None:
        """What is not settled now is looked at again by the next sweep."""
        try:
            if not self._quorum.is_settled(subject):
                await self.settle(subject)
        except SelmError as error:
            if error.reason not in _HARMLESS:
                _log.warning("not_settled", adapter=subject.adapter, reason=error.reason)


def _reason(standing: Standing, said: str) -> str:
    """Why the events go as far as they do; `said` is what the reviewer said who chose."""
    if standing.winner is None:
        return "authors disagree" if standing.is_conflict else "too few authors say so now"
    if standing.resolver == QUORUM:
        return f"{standing.winner.num_authors} authors agree"
    return f"resolved by {standing.resolver}" + (f": {said}" if said else "")
