"""Review items: withheld events as reviewers see them, and what a decision makes of one. Pure."""

from collections.abc import Callable

from feedback_svc import core
from feedback_svc.core import EventState, FeedbackRecord
from feedback_svc.reviewing import ItemFilter, ItemState, ReviewItem
from feedback_svc.signals import Correction
from selm import names
from selm.auth import Principal
from selm.errors import FieldViolation, InvalidFields, SelmError
from selm.questions import normalise

REVIEW_OWN = "feedback.review_own"


def item_state(record: FeedbackRecord) -> ItemState | None:
    """None if the event is no item: it was never withheld, or its user was erased."""
    if not record.was_withheld or record.state is EventState.ERASED:
        return None
    if record.state.is_withheld:
        return ItemState.PENDING
    if record.state is EventState.REJECTED:
        return ItemState.REJECTED
    return ItemState.AMENDED if record.original is not None else ItemState.APPROVED


def fits(item: ReviewItem, wanted: ItemFilter) -> bool:
    """All conditions hold."""
    kinds = {finding.kind for finding in item.record.findings}
    return (
        item.state in (wanted.states or {ItemState.PENDING})
        and (not wanted.findings or bool(kinds & wanted.findings))
        and wanted.adapter in ("", item.record.adapter)
    )


def event_name_of(item: str) -> str:
    """The event that an item is about."""
    ids = names.parse(names.REVIEW_ITEM, item) or ("",)
    return names.feedback_event_name(ids[0])


def require_may_decide(reviewer: Principal, author: str) -> None:
    """SCOPE_MISSING if it is his own feedback and he may not let himself in."""
    if reviewer.subject == author:
        reviewer.require(REVIEW_OWN)


def approved(decision: core.Decision) -> core.Change:
    return core.Change(decision, state=EventState.ACCEPTED)


def rejected(decision: core.Decision) -> core.Change:
    failure = core.Failure("REVIEW_REJECTED", decision.reason, time=decision.time)
    return core.Change(decision, state=EventState.REJECTED, failure=failure)


def amended(decision: core.Decision, correction: Correction) -> core.Change:
    return core.Change(decision, state=EventState.ACCEPTED, signal=correction)


def amendment_of(
    record: FeedbackRecord, correction: Correction, clean: Callable[[str], str]
) -> Correction:
    """What shall count instead, without secrets; it answers the same question unless it says so."""
    sent = record.original or record.signal
    if not isinstance(sent, Correction):
        raise InvalidFields([FieldViolation("correction", "only a correction can be amended")])
    return Correction(
        clean(correction.text),
        clean(correction.question) or sent.question,
        tuple(map(clean, correction.paraphrases)),
    )


def refuse_without_change(record: FeedbackRecord, correction: Correction, given: str) -> None:
    """An amendment teaches something, and something else than what was sent."""
    if normalise(correction.text) == normalise(given):
        raise _without_change("the correction equals the answer that was given")
    if correction == record.signal:
        raise _without_change("the correction is the one that was sent: approve it")


def decided_otherwise(item: str, state: ItemState) -> SelmError:
    return SelmError(
        "STATE_CONFLICT", f"{item} is {state.name} already", metadata={"state": state.name}
    )


def _without_change(message: str) -> SelmError:
    return SelmError("FEEDBACK_WITHOUT_CHANGE", message, metadata={"signal": "correction"})
