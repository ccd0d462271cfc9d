"""The parts of this room wired together on a bus; part of the composition root, opens nothing."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from feedback_svc import learning
from feedback_svc.review import authors, resolutions
from feedback_svc.review.authors import AuthorBook, AuthorDesk
from feedback_svc.review.book import ReviewBook
from feedback_svc.review.bucket import WatchedBucket
from feedback_svc.review.conflicts import ConflictDesk
from feedback_svc.review.desk import ReviewDesk
from feedback_svc.review.once import Once
from feedback_svc.review.quorum import Quorum, QuorumLoop
from feedback_svc.review.resolutions import ResolutionBook
from feedback_svc.stream.deciding import Decider
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.ledger import Ledger
from selm.bus import Bus


@dataclass(frozen=True)
class Neighbours:
    """What the room needs from others."""

    stream: EventStream
    journal: Journal
    ledger: Ledger
    policies: learning.Policies
    # Takes secrets and personal data out of a text.
    clean: Callable[[str], str]


class AuthorsRoom:
    """What has to be there before events are taken in: who is blocked, and who is trusted."""

    def __init__(self, bus: Bus, timeout_s: float) -> None:
        self.book = ReviewBook()
        choices = WatchedBucket(bus.kv(resolutions.BUCKET), timeout_s, self._chosen)
        self.resolutions = ResolutionBook(choices)
        bucket = WatchedBucket(bus.kv(authors.BUCKET), timeout_s, self._changed)
        self.authors = AuthorBook(bucket, self.book, self.resolutions.conflicts_lost)

    @property
    def is_ready(self) -> bool:
        return self.authors.bucket.is_ready and self.resolutions.bucket.is_ready

    def _changed(self, key: str) -> None:
        self.book.look_again(key.partition(".")[0])

    def _chosen(self, key: str) -> None:
        self.resolutions.hear(key.partition(".")[0])
        self._changed(key)

    def followers(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the calls, each until cancelled."""
        return [self.authors.bucket.follow(), self.resolutions.bucket.follow()]


class ReviewRoom:
    """What is used from outside."""

    def __init__(self, people: AuthorsRoom, needs: Neighbours) -> None:
        needs.journal.event_book.listen(people.book.hear)
        once = Once(needs.ledger)
        decider = Decider(needs.stream, needs.journal)
        quorum = Quorum(people.book, people.authors, people.resolutions, needs.policies)
        self._loop = QuorumLoop(quorum, decider, needs.stream, needs.journal)
        self.authors = AuthorDesk(people.authors, needs.journal, once)
        self.conflicts = ConflictDesk(quorum, self._loop, needs.journal, once)
        self.items = ReviewDesk(
            needs.journal,
            needs.stream,
            decider,
            people.book,
            once,
            needs.clean,
            self.conflicts.about,
        )

    def followers(self, interval_s: float) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the calls, until cancelled."""
        return [self._loop.run(interval_s)]
