"""Which subjects are weighed: those with news, and no other; and the conflicts known from it."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from feedback_svc.core import Decision, EventState, FeedbackRecord
from feedback_svc.learning import TrainingPolicy
from feedback_svc.review.authors import AuthorBook
from feedback_svc.review.book import ReviewBook, Subject, subject_of
from feedback_svc.review.bucket import WatchedBucket
from feedback_svc.review.quorum import Quorum, QuorumLoop
from feedback_svc.review.resolutions import ResolutionBook
from feedback_svc.signals import Comment, Correction
from selm.lessons import Consent
from tests.unit.feedback.records import RECORD, TIME

# Nothing here has to be decided, stored or asked of the broker.
UNUSED: Any = None


class Policies:
    """Fulfils learning.Policies, and counts what is asked: weighing a subject asks for more than
    the one look that the loop has at each adapter."""

    def __init__(self) -> None:
        self.quorum_authors: dict[str, int] = {}
        self.num_asked: Counter[tuple[str, str]] = Counter()

    def policy_of(self, tenant: str, adapter: str) -> TrainingPolicy:
        self.num_asked[tenant, adapter] += 1
        return TrainingPolicy(quorum_authors=self.quorum_authors.get(adapter, 2))


class Bench:
    """A loop over a book of events, none of which has to go any other way."""

    def __init__(self) -> None:
        self.book = ReviewBook()
        self.policies = Policies()
        buckets = [WatchedBucket(UNUSED, 1.0) for _ in range(2)]
        for bucket in buckets:
            bucket.is_ready = True
        resolutions = ResolutionBook(buckets[0])
        authors = AuthorBook(buckets[1], self.book, resolutions.conflicts_lost)
        self.quorum = Quorum(self.book, authors, resolutions, self.policies)
        self.loop = QuorumLoop(self.quorum, UNUSED, UNUSED, UNUSED)
        self._position = 0

    def hear(self, record: FeedbackRecord) -> None:
        self._position += 1
        self.book.hear(record, self._position)

    async def weighed(self, tenant: str = "t") -> set[int]:
        """The questions of the subjects that a pass looks at."""
        self.policies.num_asked.clear()
        await self.loop.catch_up()
        asked = self.policies.num_asked.items()
        return {int(name[9:]) for (one, name), count in asked if one == tenant and count > 1}


def said(author: str, answer: str, number: int, **fields: Any) -> FeedbackRecord:
    """What somebody says to question `number` of an adapter of its own; it stays with its user."""
    fields.setdefault("tenant", "t")
    return replace(
        RECORD,
        name=f"feedbackEvents/{author}{number}",
        lesson=f"lessons/{author}{number}",
        author=author,
        adapter=f"adapters/{number}",
        sequence=number + 1,
        signal=Correction(answer, f"What is the capital of Velmora {number}?"),
        reach=Consent.PRIVATE_ADAPTER,
        decision=Decision("quorum", "", TIME),
        **fields,
    )


def subject(record: FeedbackRecord) -> Subject:
    found = subject_of(record)
    assert found is not None
    return found


ALL = set(range(10))


@pytest.fixture
async def bench() -> Bench:
    """Ten subjects of a tenant and one of another, all weighed."""
    bench = Bench()
    for number in ALL:
        bench.hear(said("anna", "Lutz", number))
    bench.hear(said("anna", "Lutz", 0, tenant="other"))
    assert await bench.weighed() == ALL
    return bench


async def test_what_has_no_news_is_not_weighed_again(bench: Bench) -> None:
    """A look costs nothing while nothing happens, and one weighing for one event."""
    assert await bench.weighed() == set()
    bench.hear(said("bo", "Zubrow", 3))
    assert await bench.weighed() == {3}


async def test_a_new_policy_weighs_its_subjects_anew(bench: Bench) -> None:
    """Nothing else tells of it."""
    bench.policies.quorum_authors["adapters/4"] = 3
    assert await bench.weighed() == {4}
    assert await bench.weighed() == set()


async def test_what_a_reviewer_makes_of_one_event_weighs_all_that_its_author_says(
    bench: Bench,
) -> None:
    """His trust moved; what only others speak about stays as it is."""
    bench.hear(said("bo", "Zubrow", 10))
    withheld = said("anna", "Nonsense", 11, state=EventState.IN_REVIEW, was_withheld=True)
    bench.hear(withheld)
    assert await bench.weighed() == {10}

    bench.hear(replace(withheld, state=EventState.REJECTED, num_decisions=1))

    assert await bench.weighed() == ALL


async def test_of_what_was_erased_no_subject_stays_known(bench: Bench) -> None:
    """Not with its author's other subjects either: a subject holds words of its question."""
    gone = said("anna", "Lutz", 5)
    bench.hear(replace(gone, state=EventState.ERASED, signal=Comment(""), num_decisions=1))
    await bench.weighed()
    withheld = said("anna", "Nonsense", 11, state=EventState.IN_REVIEW, was_withheld=True)
    bench.hear(withheld)
    bench.hear(replace(withheld, state=EventState.REJECTED, num_decisions=1))

    assert subject(gone) not in bench.book.news
    assert subject(said("anna", "Lutz", 4)) in bench.book.news


async def test_conflicts_are_looked_for_where_there_may_be_one(bench: Bench) -> None:
    """Before and after the loop has weighed them, and not once authors agree again."""
    other = said("bo", "Zubrow", 3)
    bench.hear(other)
    assert bench.quorum.may_be_contested("t") == [subject(other)]
    await bench.weighed()
    assert bench.quorum.may_be_contested("t") == [subject(other)]
    assert bench.quorum.may_be_contested("other") == []

    bench.hear(replace(other, state=EventState.REJECTED, num_decisions=1))
    await bench.weighed()
    assert bench.quorum.may_be_contested("t") == []


async def test_a_pass_over_many_subjects_lets_others_go_first() -> None:
    """Calls are served while all is weighed at start."""
    bench = Bench()
    for number in range(3000):
        bench.hear(said("anna", f"Lutz {number}", number))
    weighing = asyncio.create_task(bench.loop.catch_up())
    num_turns = 0
    while not weighing.done():
        await asyncio.sleep(0)
        num_turns += 1

    assert num_turns > 5
