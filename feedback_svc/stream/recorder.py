"""Makes one durable event of a draft, once per request id, whatever crashes in between.

The stream is the ledger: an event's name is derived from tenant and request id, the journal knows
every event that was ever stored, and within the broker's window the name is the message id too.
    known name       a repeat: answered with what was recorded
    known content    the same words about the same answer under another id: FEEDBACK_DUPLICATE
    judge            redaction, screen and policy, before anything is stored
    append           one message; the broker has synced it when this returns
A crash after any line leaves a state from which the same request ends in the same single event.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from feedback_svc import composing, core, learning
from feedback_svc.signals import kind_of
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.metrics import DUPLICATES, RECEIVED
from feedback_svc.stream.turns import Turns
from selm.errors import SelmError, adapter_not_found, not_found, unavailable
from selm.testing import failpoint


class Judge(Protocol):
    """Decides how an event starts; see intake."""

    def judge(
        self, record: core.FeedbackRecord, exchange: core.Exchange | None
    ) -> tuple[core.FeedbackRecord, core.Exchange | None]: ...


class Recorder:
    """Fulfils core.Recorder."""

    def __init__(
        self,
        stream: EventStream,
        journal: Journal,
        judge: Judge,
        policies: learning.Policies,
        generation_wait_s: float,
    ) -> None:
        self._stream = stream
        self._journal = journal
        self._judge = judge
        self._policies = policies
        self._generation_wait_s = generation_wait_s
        self._turns = Turns()

    async def get(self, tenant: str, name: str) -> core.FeedbackRecord:
        return await self._journal.find_event(tenant, name)

    async def record(
        self, tenant: str, author: str, draft: core.Draft, key: core.RequestKey | None
    ) -> core.FeedbackRecord:
        """The event as recorded; durable when this returns."""
        self._journal.require_ready()
        event = composing.event_id(tenant, key.request_id if key else "")
        # One at a time where two could be the same: equal words, or equal ids.
        async with self._turns.of((tenant, author, draft.target, draft.digest)):
            if key is not None and (earlier := self._earlier(tenant, event, key)) is not None:
                return earlier
            self._refuse_duplicate(tenant, author, draft)
            record, exchange = await self._compose(tenant, author, event, draft)
            return await self._append(*self._judge.judge(record, exchange))

    def _earlier(self, tenant: str, event: str, key: core.RequestKey) -> core.FeedbackRecord | None:
        """The event that an earlier attempt stored; None if it never came to that."""
        record = self._journal.event(tenant, composing.event_name(event))
        if record is not None:
            DUPLICATES.inc()
            _check_same(record, key.digest, key.request_id)
        return record

    def _refuse_duplicate(self, tenant: str, author: str, draft: core.Draft) -> None:
        same = self._journal.event_book.same_content(tenant, author, draft.target, draft.digest)
        if same is not None:
            raise SelmError(
                "FEEDBACK_DUPLICATE",
                f"you said the same about {draft.target} before: {same.name}",
                metadata={"feedback_event": same.name},
            )

    async def _compose(
        self, tenant: str, author: str, event: str, draft: core.Draft
    ) -> tuple[core.FeedbackRecord, core.Exchange | None]:
        generation = None
        if draft.generation:
            generation = await self._stream.generation(
                tenant, draft.generation, self._generation_wait_s
            )
            if generation is None:
                raise not_found(draft.generation)
        if draft.adapter and not await self._stream.adapter_exists(tenant, draft.adapter):
            raise adapter_not_found(draft.adapter)
        policy = self._policies.policy_of(tenant, composing.adapter_of(draft, generation))
        now = datetime.now(UTC)
        return composing.compose(
            tenant, author, event, draft, generation, policy.default_consent, now
        )

    async def _append(
        self, record: core.FeedbackRecord, exchange: core.Exchange | None
    ) -> core.FeedbackRecord:
        failpoint("feedback.before_publish")
        ack = await self._stream.append(record, exchange)
        failpoint("feedback.after_publish")
        if ack.duplicate:
            DUPLICATES.inc()
            return await self._stored_before(record, ack.sequence)
        RECEIVED.labels(kind=kind_of(record.signal).name).inc()
        stored = replace(record, sequence=ack.sequence)
        self._journal.note(stored, self._stream.lesson(stored, exchange))
        return stored

    async def _stored_before(
        self, record: core.FeedbackRecord, sequence: int
    ) -> core.FeedbackRecord:
        """What the broker had under this name: an attempt that was answered to nobody."""
        is_read = await self._journal.reach(sequence)
        stored = self._journal.event(record.tenant, record.name) if is_read else None
        if stored is None:
            raise unavailable("BUS_UNAVAILABLE", "replay lags behind", stream="FEEDBACK")
        _check_same(stored, record.digest)
        return stored


def _check_same(record: core.FeedbackRecord, digest: str, request_id: str = "") -> None:
    if record.digest and record.digest != digest:
        raise SelmError(
            "REQUEST_ID_REUSED",
            "this request_id was used before with other content",
            metadata={"request_id": request_id, "feedback_event": record.name},
        )
