"""Authors: what an operator set about them, what became of their events, and the trust that gives.

Bucket `authors` holds what was set; the counts are folded from the stream.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from feedback_svc import core
from feedback_svc.review.book import ReviewBook, Tally
from feedback_svc.review.bucket import Stored, WatchedBucket
from feedback_svc.review.once import Once
from feedback_svc.reviewing import Author, AuthorChange
from feedback_svc.safety.authors import DEFAULT_TRUST, Trust
from feedback_svc.stream.journal import Journal
from selm import names
from selm.errors import SelmError, not_found, unavailable

BUCKET = "authors"

# Approved and rejected by reviewers, and conflicts lost.
Counts = list[int]


class AuthorBook:
    """What is known of every author."""

    def __init__(
        self, bucket: WatchedBucket, book: ReviewBook, conflicts_lost: Callable[[str, str], int]
    ) -> None:
        self.bucket = bucket
        self._book = book
        self._conflicts_lost = conflicts_lost

    def is_blocked(self, tenant: str, author: str) -> bool:
        if not self.bucket.is_ready:
            raise unavailable("STARTING", "authors are being read", waiting_for="authors")
        stored = self.bucket.get(_key(tenant, author))
        return bool(stored and stored.fields["blocked"])

    def trust_of(self, tenant: str, author: str) -> float:
        """What his word weighs, 0 to 1; nothing if he is blocked."""
        return self._trust(tenant, author, is_blocked=self.is_blocked(tenant, author)).weight

    def find(self, tenant: str, subject: str) -> Author | None:
        """None if he never gave feedback and nothing was set about him."""
        stored = self.stored(tenant, subject)
        tally = self._book.tallies(tenant).get(subject)
        if stored is None and tally is None:
            return None
        tally = tally or Tally()
        fields = stored.fields if stored else {}
        changed = datetime.fromisoformat(fields["time"]) if fields else None
        return Author(
            subject=subject,
            # How far he would be trusted, were he not blocked.
            trust=self._trust(tenant, subject, is_blocked=False).weight,
            trust_fixed=bool(fields.get("trust_fixed")),
            blocked=bool(fields.get("blocked")),
            num_accepted=tally.num_accepted,
            num_rejected=tally.num_rejected,
            num_conflicts_lost=self._conflicts_lost(tenant, subject),
            etag=_etag(stored),
            update_time=max(filter(None, (changed, tally.update_time)), default=None),
        )

    def of_tenant(self, tenant: str) -> list[Author]:
        subjects = set(self._book.tallies(tenant))
        subjects |= {str(stored.fields["author"]) for stored in self.bucket.under(f"{tenant}.")}
        return [author for one in subjects if (author := self.find(tenant, one)) is not None]

    def stored(self, tenant: str, subject: str) -> Stored | None:
        return self.bucket.get(_key(tenant, subject))

    def counts(self, tenant: str, subject: str) -> Counts:
        """What moves trust: reviewers' decisions for and against, and conflicts lost."""
        tally = self._book.tallies(tenant).get(subject, Tally())
        return [tally.num_approved, tally.num_rejected, self._conflicts_lost(tenant, subject)]

    def _trust(self, tenant: str, subject: str, *, is_blocked: bool) -> Trust:
        stored = self.stored(tenant, subject)
        fields: Any = stored.fields if stored else {}
        since = fields.get("counts", [0, 0, 0])
        # What was decided before an operator set the trust is part of what he set.
        moved = [
            max(0, now - then)
            for now, then in zip(self.counts(tenant, subject), since, strict=True)
        ]
        trust = fields.get("trust", DEFAULT_TRUST)
        return Trust(
            accepted=moved[0],
            rejected=moved[1],
            conflicts_lost=moved[2],
            prior=trust,
            fixed=trust if fields.get("trust_fixed") else None,
            blocked=is_blocked,
        )


class AuthorDesk:
    """Fulfils reviewing.Authors."""

    def __init__(self, authors: AuthorBook, journal: Journal, once: Once) -> None:
        self._authors = authors
        self._journal = journal
        self._once = once

    async def get(self, tenant: str, subject: str) -> Author:
        # What was set is known before the events that are counted: never answer half of it.
        await self._journal.catch_up(tenant)
        author = self._authors.find(tenant, subject)
        if author is None:
            raise not_found(names.author_name(subject))
        return author

    async def list(
        self, tenant: str, after: tuple[int, str] | None, limit: int
    ) -> Sequence[Author]:
        await self._journal.catch_up(tenant)
        found = sorted(self._authors.of_tenant(tenant), key=_place)
        return [author for author in found if after is None or _place(author) > after][:limit]

    async def update(
        self, tenant: str, change: AuthorChange, key: core.RequestKey | None
    ) -> Author:
        before = await self.get(tenant, change.subject)
        name = names.author_name(change.subject)
        await self._once.do(tenant, key, name, lambda: self._write(tenant, change, before))
        return await self.get(tenant, change.subject)

    async def _write(self, tenant: str, change: AuthorChange, before: Author) -> None:
        path = _key(tenant, change.subject)
        stored = self._authors.stored(tenant, change.subject)
        if change.etag and change.etag != before.etag:
            # Perhaps it was another replica that answered the etag: the broker knows.
            stored = await self._authors.bucket.read(path)
            if change.etag != _etag(stored):
                raise _stale(change, _etag(stored))
        trust, counts = self._new_trust(tenant, change, before, stored)
        fields = {
            "author": change.subject,
            "trust": trust,
            "trust_fixed": before.trust_fixed if change.trust_fixed is None else change.trust_fixed,
            "blocked": before.blocked if change.blocked is None else change.blocked,
            "counts": counts,
            "time": datetime.now(UTC).isoformat(),
        }
        try:
            await self._authors.bucket.write(path, fields, stored)
        except SelmError as error:
            if error.reason not in ("RESOURCE_EXISTS", "STALE_REVISION"):
                raise
            raise _stale(change, _etag(await self._authors.bucket.read(path))) from error

    def _new_trust(
        self, tenant: str, change: AuthorChange, before: Author, stored: Stored | None
    ) -> tuple[float, Counts]:
        """The trust to start from, and the counts it accounts for."""
        if change.trust is not None:
            return change.trust, self._authors.counts(tenant, change.subject)
        if change.trust_fixed is not None and change.trust_fixed != before.trust_fixed:
            # Fixed where it stands, or let go from where it was fixed.
            return before.trust, self._authors.counts(tenant, change.subject)
        if stored is not None:
            return stored.fields["trust"], stored.fields["counts"]
        return DEFAULT_TRUST, [0, 0, 0]


def _place(author: Author) -> tuple[int, str]:
    return -author.num_rejected, author.subject


def _key(tenant: str, subject: str) -> str:
    # A subject may hold characters that a key must not.
    return f"{tenant}.{hashlib.sha256(subject.encode()).hexdigest()[:32]}"


def _etag(stored: Stored | None) -> str:
    return f'"{stored.revision if stored else 0:x}"'


def _stale(change: AuthorChange, actual: str) -> SelmError:
    return SelmError(
        "STALE_ETAG",
        "the author changed since its etag was read",
        metadata={"expected": change.etag, "actual": actual},
    )
