"""An erasure is completed when all have confirmed, and what is said of it survives the bus."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from google.protobuf.message import Message

from selm import erasure_events, streams
from selm.delivery import Delivery
from selm.erasures import (
    FEEDBACK,
    MEMORY,
    SERVICES,
    TRAINER,
    Erasure,
    ErasureOrder,
    Receipt,
    ReceiptState,
    TaintedRevision,
    Trouble,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ORDER = ErasureOrder("acme", "erasures/e1", "users/alice", NOW, "by letter", "root")


def _delivered(subject: str, message: Message) -> Delivery:
    kind = message.DESCRIPTOR.full_name
    return Delivery(subject, 1, kind, message.SerializeToString(), "")


def _confirmed(*services: str) -> Erasure:
    done = {
        service: Receipt(
            service, ReceiptState.CONFIRMED, update_time=NOW + timedelta(seconds=index)
        )
        for index, service in enumerate(services)
    }
    return Erasure(ORDER, done)


def test_it_is_completed_only_when_each_service_has_confirmed() -> None:
    """Until then the user's name is shown, afterwards its digest."""
    for missing in SERVICES:
        running = _confirmed(*(service for service in SERVICES if service != missing))
        assert not running.is_completed
        assert (running.end_time, running.shown_user) == (None, "users/alice")
    done = _confirmed(*SERVICES)
    assert done.is_completed
    assert done.end_time == NOW + timedelta(seconds=2)
    assert done.shown_user == hashlib.sha256(b"users/alice").hexdigest()


def test_a_service_that_only_hides_or_fails_has_not_confirmed() -> None:
    """HIDDEN and FAILED are on the way."""
    for state in ReceiptState:
        receipts = {**_confirmed(*SERVICES).receipts, FEEDBACK: Receipt(FEEDBACK, state)}
        assert Erasure(ORDER, receipts).is_completed == (state is ReceiptState.CONFIRMED)


def test_an_order_is_read_as_it_was_written() -> None:
    """With tenant from the subject; the subject holds no user."""
    subject = streams.erasure_requested("acme", "e1")
    message = erasure_events.requested(ORDER)

    assert erasure_events.order_of(_delivered(subject, message)) == ORDER
    assert message.user_hash == streams.user_hash("users/alice")
    assert "alice" not in subject


def test_a_receipt_is_read_as_it_was_written() -> None:
    """Counts, tainted revisions and why the last try failed."""
    revision = TaintedRevision("adapters/a/revisions/r1", "ab", 3, ("adapters/a/aliases/stable",))
    receipt = Receipt(
        TRAINER,
        ReceiptState.FAILED,
        num_memories=1,
        num_feedback=2,
        num_generations=3,
        num_datasets=4,
        revisions=(revision,),
        trouble=Trouble("STORE_UNAVAILABLE", "away", {"a": "b"}, True, NOW),
    )
    message = erasure_events.confirmed(ORDER.name, receipt, NOW)
    subject = streams.erasure_confirmed("acme", "e1", TRAINER)

    name, said = erasure_events.receipt_of(_delivered(subject, message))
    assert (name, said) == (ORDER.name, replace(receipt, update_time=NOW))


def test_a_reason_of_a_newer_peer_is_still_a_failure() -> None:
    """Its number has no name here."""
    receipt = Receipt(MEMORY, ReceiptState.FAILED, trouble=Trouble("STORE_UNAVAILABLE", "away"))
    message = erasure_events.confirmed(ORDER.name, receipt, NOW)
    message.receipt.failure.reason = 9999  # type: ignore[assignment]
    subject = streams.erasure_confirmed("acme", "e1", MEMORY)

    _, said = erasure_events.receipt_of(_delivered(subject, message))
    assert said.trouble is not None
    assert (said.trouble.reason, said.trouble.message) == ("INTERNAL", "away")
