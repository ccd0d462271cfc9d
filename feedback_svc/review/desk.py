"""Where reviewers decide on what was withheld. A decision is stored when its call returns."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from feedback_svc import core
from feedback_svc.review import items
from feedback_svc.review.book import ReviewBook, Subject, subject_of
from feedback_svc.review.once import Once
from feedback_svc.reviewing import ItemFilter, ItemState, ReviewItem, Verdict
from feedback_svc.signals import Correction
from feedback_svc.stream.deciding import Decider
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from selm.errors import SelmError, not_found

# Tells whether an item in its present state already is what the reviewer wants.
IsDone = Callable[[ReviewItem], bool]
Change = Callable[[ReviewItem, core.Decision], core.Change]


class ReviewDesk:
    """Fulfils reviewing.Reviewing."""

    def __init__(
        self,
        journal: Journal,
        stream: EventStream,
        decider: Decider,
        book: ReviewBook,
        once: Once,
        clean: Callable[[str], str],
        conflict_about: Callable[[Subject], str],
    ) -> None:
        """`clean` takes secrets out; `conflict_about` names a subject's conflict, "" if none."""
        self._journal = journal
        self._stream = stream
        self._decider = decider
        self._book = book
        self._once = once
        self._clean = clean
        self._conflict_about = conflict_about

    async def get(self, tenant: str, name: str) -> ReviewItem:
        try:
            record = await self._journal.find_event(tenant, items.event_name_of(name))
        except SelmError as error:
            if error.reason != "RESOURCE_NOT_FOUND":
                raise
            raise not_found(name) from error
        item = _item(record)
        if item is None:
            raise not_found(name)
        return self._shown(item)

    async def list(
        self, tenant: str, wanted: ItemFilter, after: tuple[int, str], limit: int
    ) -> tuple[Sequence[ReviewItem], int]:
        await self._journal.catch_up(tenant)
        known = (_item(record) for record in self._journal.events(tenant))
        found = sorted((i for i in known if i and items.fits(i, wanted)), key=_place)
        page = [item for item in found if _place(item) > after][:limit]
        return [self._shown(item) for item in page], len(found)

    async def approve(self, verdict: Verdict) -> ReviewItem:
        return await self._decide(
            verdict,
            lambda item: item.state is ItemState.APPROVED,
            lambda _, decision: items.approved(decision),
        )

    async def reject(self, verdict: Verdict) -> ReviewItem:
        return await self._decide(
            verdict,
            lambda item: item.state is ItemState.REJECTED,
            lambda _, decision: items.rejected(decision),
        )

    async def amend(self, verdict: Verdict, correction: Correction) -> ReviewItem:
        item = await self.get(verdict.reviewer.tenant, verdict.name)
        wanted = items.amendment_of(item.record, correction, self._clean)
        exchange = await self._stream.exchange(item.record)
        if item.state is ItemState.PENDING:
            items.refuse_without_change(item.record, wanted, exchange.answer if exchange else "")
        return await self._decide(
            verdict,
            lambda item: item.state is ItemState.AMENDED and item.record.signal == wanted,
            lambda _, decision: items.amended(decision, wanted),
        )

    async def _decide(self, verdict: Verdict, is_done: IsDone, change: Change) -> ReviewItem:
        tenant, reviewer = verdict.reviewer.tenant, verdict.reviewer
        item = await self.get(tenant, verdict.name)
        items.require_may_decide(reviewer, item.record.author)

        async def decide() -> None:
            item = await self.get(tenant, verdict.name)
            if item.state is ItemState.PENDING:
                now = datetime.now(UTC)
                decision = core.Decision(reviewer.subject, verdict.reason, now)
                item = await self._decided(item, change(item, decision))
            if not is_done(item):
                raise items.decided_otherwise(verdict.name, item.state)

        await self._once.do(tenant, verdict.key, verdict.name, decide)
        return await self.get(tenant, verdict.name)

    async def _decided(self, item: ReviewItem, change: core.Change) -> ReviewItem:
        """The item after a decision: this one, or that of a reviewer who was faster."""
        record = item.record
        try:
            record = await self._decider.decide(record, change)
        except SelmError as error:
            if error.reason != "STATE_CONFLICT":
                raise
            record = await self._journal.find_event(record.tenant, record.name)
        return _item(record) or item

    def _shown(self, item: ReviewItem) -> ReviewItem:
        """With what is known of it beside its event."""
        subject = subject_of(item.record)
        is_pending = item.state is ItemState.PENDING
        return replace(
            item,
            decision=None if is_pending else self._book.decision_on(item.record),
            conflict=self._conflict_about(subject) if subject else "",
        )


def _item(record: core.FeedbackRecord) -> ReviewItem | None:
    state = items.item_state(record)
    return ReviewItem(record, state) if state is not None else None


def _place(item: ReviewItem) -> tuple[int, str]:
    return item.record.sequence, item.record.name
