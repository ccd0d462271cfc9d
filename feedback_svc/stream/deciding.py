"""Decisions on recorded events: the event once more in the stream, with its new state.

The message id of a decision counts the decisions before it, so of two deciders who saw the same
event the broker takes one; the other hears STATE_CONFLICT.
"""

from dataclasses import replace

from feedback_svc import core
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from selm.errors import SelmError, unavailable
from selm.log import get_logger
from selm.testing import failpoint

_log = get_logger("feedback_svc.deciding")


class Decider:
    """Changes what was decided about an event, durably."""

    def __init__(self, stream: EventStream, journal: Journal) -> None:
        self._stream = stream
        self._journal = journal

    async def decide(self, record: core.FeedbackRecord, change: core.Change) -> core.FeedbackRecord:
        """The event after the change; STATE_CONFLICT if it was decided since `record` was read."""
        self._journal.require_ready()
        after = _changed(record, change)
        failpoint("feedback.before_decision")
        ack = await self._stream.append_decision(record, after)
        failpoint("feedback.after_decision")
        if not await self._journal.reach(ack.sequence):
            raise unavailable("BUS_UNAVAILABLE", "replay lags behind", stream="FEEDBACK")
        now = await self._journal.find_event(record.tenant, record.name)
        if now.num_decisions != after.num_decisions or now.decision != after.decision:
            raise SelmError(
                "STATE_CONFLICT",
                f"{record.name} was decided by somebody else meanwhile",
                metadata={"state": now.state.name},
            )
        _log.info("decided", feedback_event=record.name, state=now.state.name, reach=now.reach.name)
        return now


def _changed(record: core.FeedbackRecord, change: core.Change) -> core.FeedbackRecord:
    state = change.state or record.state
    return replace(
        record,
        state=state,
        signal=change.signal or record.signal,
        reach=change.reach or record.reach,
        # Whoever lets an event in takes away why it was withheld; its findings stay for audit.
        failure=change.failure if change.state else record.failure,
        num_decisions=record.num_decisions + 1,
        decision=change.decision,
    )
