"""What authors do not agree on, as it is shown, and a reviewer's choice among the claims."""

from collections.abc import Sequence
from datetime import datetime

from feedback_svc import reviewing
from feedback_svc.review.book import Subject
from feedback_svc.review.items import require_may_decide
from feedback_svc.review.once import Once
from feedback_svc.review.pauses import Pauses
from feedback_svc.review.quorum import Quorum, QuorumLoop
from feedback_svc.review.resolutions import conflict_of
from feedback_svc.review.standing import Resolution, Standing
from feedback_svc.reviewing import Conflict, ConflictClaim, ConflictState, Verdict
from feedback_svc.safety.claims import Claim, quorum_weight
from feedback_svc.stream.journal import Journal
from selm.errors import FieldViolation, InvalidFields, SelmError, not_found


class ConflictDesk:
    """Fulfils reviewing.Conflicts."""

    def __init__(
        self,
        quorum: Quorum,
        loop: QuorumLoop,
        journal: Journal,
        once: Once,
    ) -> None:
        self._quorum = quorum
        self._loop = loop
        self._journal = journal
        self._once = once

    async def get(self, tenant: str, name: str) -> Conflict:
        await self._journal.catch_up(tenant)
        return self._found(tenant, name)

    async def list(
        self,
        tenant: str,
        wanted: reviewing.ConflictFilter,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> Sequence[Conflict]:
        await self._journal.catch_up(tenant)
        states = wanted.states or {ConflictState.OPEN}
        found, pauses = [], Pauses()
        for subject in self._quorum.may_be_contested(tenant):
            await pauses.here()
            conflict = self._conflict(subject) if wanted.adapter in ("", subject.adapter) else None
            if conflict is None or conflict.state not in states:
                continue
            if before is None or _place(conflict) < before:
                found.append(conflict)
        return sorted(found, key=_place, reverse=True)[:limit]

    async def resolve(self, verdict: Verdict, claim_id: str) -> Conflict:
        tenant = verdict.reviewer.tenant
        await self._journal.catch_up(tenant)

        async def choose() -> None:
            subject, standing = self._standing(tenant, verdict.name)
            claim = next((c for c in standing.claims if standing.id_of(c) == claim_id), None)
            if claim is None:
                raise InvalidFields([FieldViolation("claim_id", "is no claim of this conflict")])
            for author in claim.authors:
                require_may_decide(verdict.reviewer, author)
            if self._needs_choice(subject, standing, claim):
                await self._choose(subject, standing, claim, verdict)
            await self._loop.settle(subject)

        await self._once.do(tenant, verdict.key, verdict.name, choose)
        return self._found(tenant, verdict.name)

    def about(self, subject: Subject) -> str:
        """Name of the conflict about a subject; "" if there is none."""
        conflict = self._conflict(subject)
        return conflict.name if conflict else ""

    def _needs_choice(self, subject: Subject, standing: Standing, claim: Claim) -> bool:
        """False if a reviewer chose the same before; STATE_CONFLICT if he chose otherwise."""
        by_quorum = standing.resolver in ("", reviewing.QUORUM)
        if not by_quorum and claim != standing.winner:
            raise SelmError(
                "STATE_CONFLICT",
                f"{standing.resolver} chose another claim",
                metadata={"state": ConflictState.RESOLVED.name},
            )
        find = self._journal.book.find
        lessons = [find(subject.tenant, lesson) for lesson in claim.lessons]
        if all(lesson is None or lesson.is_final for lesson in lessons):
            raise SelmError(
                "STATE_CONFLICT",
                "every lesson that says so has ended: it has to be taught again",
                metadata={"state": "SUPERSEDED"},
            )
        return by_quorum

    async def _choose(
        self, subject: Subject, standing: Standing, claim: Claim, verdict: Verdict
    ) -> None:
        others = {author for other in standing.claims if other != claim for author in other.authors}
        newest = max(statement.sequence for statement in standing.statements)
        resolution = Resolution(
            standing.id_of(claim), verdict.reviewer.subject, verdict.reason, newest
        )
        await self._quorum.resolutions.choose(subject, resolution, others - set(claim.authors))

    def _found(self, tenant: str, name: str) -> Conflict:
        subject, _ = self._standing(tenant, name)
        conflict = self._conflict(subject)
        if conflict is None:
            raise not_found(name)
        return conflict

    def _standing(self, tenant: str, name: str) -> tuple[Subject, Standing]:
        for subject in self._quorum.may_be_contested(tenant):
            if conflict_of(subject) == name:
                standing = self._quorum.standing(subject)
                if standing is not None:
                    return subject, standing
        raise not_found(name)

    def _conflict(self, subject: Subject) -> Conflict | None:
        """None if its authors agree, and always did since somebody looked."""
        standing = self._quorum.standing(subject)
        chosen = self._quorum.resolutions.time_of(subject)
        if standing is None or not (standing.is_conflict or chosen):
            return None
        records = self._quorum.book.statements(subject)
        others = [s for s in standing.statements if s.author != standing.statements[0].author]
        second = others[0].sequence if others else 0
        began = next((r for r in records if r.sequence == second), records[0])
        changes = [r.decision.time if r.decision else r.create_time for r in records]
        return Conflict(
            name=conflict_of(subject),
            state=ConflictState.RESOLVED if standing.winner else ConflictState.OPEN,
            adapter=subject.adapter,
            subject_key=subject.key,
            question=standing.question,
            claims=tuple(_claim(standing, claim) for claim in standing.claims),
            quorum_weight=quorum_weight(self._quorum.quorum_authors(subject)),
            resolver=standing.resolver,
            create_time=began.create_time,
            update_time=max([*changes, *([chosen] if chosen else [])]),
        )


def _claim(standing: Standing, claim: Claim) -> ConflictClaim:
    return ConflictClaim(
        claim_id=standing.id_of(claim),
        answer=claim.answer,
        lessons=claim.lessons,
        num_authors=claim.num_authors,
        weight=claim.weight,
        is_winner=claim == standing.winner,
    )


def _place(conflict: Conflict) -> tuple[datetime, str]:
    return conflict.create_time, conflict.name
