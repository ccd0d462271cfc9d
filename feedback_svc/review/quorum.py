"""Gives each event the reach that its authors' agreement allows, beside the calls.

Whatever this does follows from the stream and the buckets, so any replica may do it, after any
crash; two that do the same at once are one decision.
"""

import asyncio
import time
from datetime import UTC, datetime

from feedback_svc import core, learning
from feedback_svc.review.authors import AuthorBook
from feedback_svc.review.book import ReviewBook, Subject
from feedback_svc.review.pauses import Pauses
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

# What failed is tried again then.
_RETRY_S = 5.0
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
        # Subjects that had a conflict, open or resolved, when they were last weighed.
        self._contested: set[Subject] = set()
        # By tenant and adapter: what was asked for when `hear_policies` last looked.
        self._asked: dict[tuple[str, str], int] = {}

    @property
    def is_ready(self) -> bool:
        return self._authors.bucket.is_ready and self.resolutions.bucket.is_ready

    def hear_policies(self) -> None:
        """Policies change without news: where one did, its adapter's subjects are weighed anew."""
        for tenant, adapter in self.book.adapters:
            asked = self._policies.policy_of(tenant, adapter).quorum_authors
            if self._asked.get((tenant, adapter)) != asked:
                self._asked[tenant, adapter] = asked
                self.book.look_again(tenant, adapter)

    def may_be_contested(self, tenant: str) -> list[Subject]:
        """All about which there is a conflict, and those with news, about which there may be."""
        return [one for one in self._contested | self.book.news if one.tenant == tenant]

    def quorum_authors(self, subject: Subject) -> int:
        return self._policies.policy_of(subject.tenant, subject.adapter).quorum_authors

    def standing(self, subject: Subject) -> Standing | None:
        """None if nobody says anything about it."""
        records = self.book.statements(subject)
        resolution = self.resolutions.find(subject)
        standing = None
        if records:
            standing = stand(
                records,
                lambda author: self._authors.trust_of(subject.tenant, author),
                self.quorum_authors(subject),
                resolution,
            )
        if standing is not None and (standing.is_conflict or resolution is not None):
            self._contested.add(subject)
        else:
            self._contested.discard(subject)
        return standing

    def is_settled(self, subject: Subject) -> bool:
        """Nothing can have to change: the common case, told without looking at the words."""
        records = self.book.statements(subject)
        return (
            len(records) < 2
            and self.quorum_authors(subject) <= 1
            and subject not in self._contested
            and self.resolutions.find(subject) is None
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
        self._failed: set[Subject] = set()
        self._retry_time = 0.0

    async def run(self, interval_s: float) -> None:
        """Runs until cancelled: subjects with news, as all of them are at first."""
        while True:
            await asyncio.sleep(interval_s)
            if self._journal.is_ready and self._quorum.is_ready and self._stream.is_connected:
                try:
                    await self.catch_up()
                except SelmError as error:
                    _log.info("quorum_waits", reason=error.reason)

    async def catch_up(self) -> None:
        """Settle whatever there is news of, and what could not be settled before."""
        book, pauses = self._quorum.book, Pauses()
        self._quorum.hear_policies()
        if time.monotonic() >= self._retry_time:
            self._retry_time = time.monotonic() + _RETRY_S
            book.news.update(self._failed)
            self._failed.clear()
        while book.news:
            await self._settle_or_wait(book.news.pop())
            await pauses.here()

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
        """What is not settled now is tried again, and with its next news."""
        try:
            if not self._quorum.is_settled(subject):
                await self.settle(subject)
        except SelmError as error:
            self._failed.add(subject)
            if error.reason not in _HARMLESS:
                _log.warning("not_settled", adapter=subject.adapter, reason=error.reason)


def _reason(standing: Standing, said: str) -> str:
    """Why the events go as far as they do; `said` is what the reviewer said who chose."""
    if standing.winner is None:
        return "authors disagree" if standing.is_conflict else "too few authors say so now"
    if standing.resolver == QUORUM:
        return f"{standing.winner.num_authors} authors agree"
    return f"resolved by {standing.resolver}" + (f": {said}" if said else "")
