"""Makes one durable event of a draft, once per request id, whatever crashes in between.

    find entry     a done one is answered from the journal
    write intent   before publishing, with the event's name, derived from tenant and request id
    publish        the event's name is its message id: within the window the broker drops repeats,
                   after it the journal, which has read everything stored, knows the event
    complete       from now on the id is settled for ever
A crash after any line leaves a state from which the same request ends in the same single event.
"""

from dataclasses import replace
from datetime import UTC, datetime

from feedback_svc import core
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.ledger import Ledger, LedgerEntry
from feedback_svc.stream.metrics import DUPLICATES, RECEIVED
from selm.errors import SelmError, adapter_not_found, not_found, unavailable
from selm.lessons import Consent
from selm.log import get_logger
from selm.testing import failpoint

_log = get_logger("feedback_svc.recorder")


class Recorder:
    """Fulfils core.Recorder."""

    def __init__(
        self,
        stream: EventStream,
        journal: Journal,
        ledger: Ledger,
        default_consent: Consent,
        generation_wait_s: float,
    ) -> None:
        self._stream = stream
        self._journal = journal
        self._ledger = ledger
        self._default_consent = default_consent
        self._generation_wait_s = generation_wait_s

    async def get(self, tenant: str, name: str) -> core.FeedbackRecord:
        return await self._journal.find_event(tenant, name)

    async def record(
        self, tenant: str, author: str, draft: core.Draft, key: core.RequestKey | None
    ) -> core.FeedbackRecord:
        """The event as recorded; durable when this returns."""
        self._journal.require_ready()
        entry = await self._ledger.find(tenant, key) if key else None
        if entry is not None and (earlier := await self._earlier(tenant, entry)) is not None:
            DUPLICATES.inc()
            return earlier
        record, exchange = await self._compose(tenant, author, draft, key)
        if key is not None and entry is None:
            await self._ledger.intend(tenant, key, record.name)
        stored = await self._append(record, exchange)
        if key is not None:
            await self._complete(tenant, key, stored)
        return stored

    async def _earlier(self, tenant: str, entry: LedgerEntry) -> core.FeedbackRecord | None:
        """The event that an earlier attempt stored; None if it never came to that."""
        if self._journal.event(tenant, entry.resource) is None:
            await self._journal.catch_up(tenant)
        record = self._journal.event(tenant, entry.resource)
        if record is None and entry.is_done:
            raise not_found(entry.resource)
        return record

    async def _compose(
        self, tenant: str, author: str, draft: core.Draft, key: core.RequestKey | None
    ) -> tuple[core.FeedbackRecord, core.Exchange]:
        generation = await self._stream.generation(
            tenant, draft.generation, self._generation_wait_s
        )
        if generation is None:
            raise not_found(draft.generation)
        if draft.adapter and not await self._stream.adapter_exists(tenant, draft.adapter):
            raise adapter_not_found(draft.adapter)
        event = core.event_id(tenant, key.request_id if key else "")
        now = datetime.now(UTC)
        return core.compose(tenant, author, event, draft, generation, self._default_consent, now)

    async def _append(
        self, record: core.FeedbackRecord, exchange: core.Exchange
    ) -> core.FeedbackRecord:
        failpoint("feedback.before_publish")
        ack = await self._stream.append(record, exchange)
        failpoint("feedback.after_publish")
        is_read = await self._journal.reach(ack.sequence)
        if not ack.duplicate:
            RECEIVED.labels(kind=core.kind_of(record.signal).name).inc()
            # Replay may lag behind the acknowledgement, which alone makes it durable.
            return replace(record, sequence=ack.sequence)
        DUPLICATES.inc()
        stored = self._journal.event(record.tenant, record.name) if is_read else None
        if stored is None:
            raise unavailable("BUS_UNAVAILABLE", "replay lags behind", stream="FEEDBACK")
        return stored

    async def _complete(
        self, tenant: str, key: core.RequestKey, record: core.FeedbackRecord
    ) -> None:
        failpoint("feedback.before_complete")
        try:
            await self._ledger.complete(tenant, key, record.name)
        except SelmError as error:
            # The event is durable and its id derived: the intent alone leads a repeat to it.
            _log.warning("ledger_not_completed", feedback_event=record.name, error=str(error))
