"""What reviewers chose where authors disagree; bucket `conflicts`. Answers at once."""

import hashlib
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime

from feedback_svc.review.book import Subject
from feedback_svc.review.bucket import Stored, WatchedBucket
from feedback_svc.review.standing import Resolution
from selm import names
from selm.errors import SelmError

BUCKET = "conflicts"


class ResolutionBook:
    """The choices, by the conflict that they are about."""

    def __init__(self, bucket: WatchedBucket) -> None:
        self.bucket = bucket
        # Conflicts lost by author, of each tenant that was asked about since it last changed.
        self._lost: dict[str, Counter[str]] = {}

    def hear(self, tenant: str) -> None:
        """Somebody chose there."""
        self._lost.pop(tenant, None)

    def find(self, subject: Subject) -> Resolution | None:
        stored = self.bucket.get(_key(subject))
        if stored is None:
            return None
        fields = stored.fields
        return Resolution(
            fields["claim_id"], fields["resolver"], fields["reason"], fields["sequence"]
        )

    def time_of(self, subject: Subject) -> datetime | None:
        stored = self.bucket.get(_key(subject))
        return datetime.fromisoformat(stored.fields["time"]) if stored else None

    def conflicts_lost(self, tenant: str, author: str) -> int:
        """In how many conflicts a reviewer chose what this author did not say."""
        if tenant not in self._lost:
            chosen = self.bucket.under(f"{tenant}.")
            self._lost[tenant] = Counter(loser for s in chosen for loser in s.fields["losers"])
        return self._lost[tenant][author]

    async def choose(
        self, subject: Subject, resolution: Resolution, losers: Collection[str]
    ) -> None:
        """Keep a choice; STATE_CONFLICT if somebody else chose since."""
        fields = {
            "claim_id": resolution.claim_id,
            "resolver": resolution.resolver,
            "reason": resolution.reason,
            "sequence": resolution.sequence,
            "losers": sorted(losers),
            "time": datetime.now(UTC).isoformat(),
        }
        before: Stored | None = self.bucket.get(_key(subject))
        try:
            await self.bucket.write(_key(subject), fields, before)
        except SelmError as error:
            if error.reason not in ("RESOURCE_EXISTS", "STALE_REVISION"):
                raise
            await self.bucket.read(_key(subject))
            raise SelmError(
                "STATE_CONFLICT",
                f"{conflict_of(subject)} was resolved by somebody else meanwhile",
                metadata={"state": "RESOLVED"},
            ) from error


def conflict_of(subject: Subject) -> str:
    """The name of the conflict about a subject, whether or not there is one."""
    content = f"{subject.tenant}\0conflict\0{subject.adapter}\0{subject.key}"
    return names.conflict_name(hashlib.sha256(content.encode()).hexdigest()[:32])


def _key(subject: Subject) -> str:
    return f"{subject.tenant}.{conflict_of(subject).removeprefix('conflicts/')}"
