"""Erasures read from and written to messages: protobuf on one side, selm.erasures on the other."""

from datetime import datetime

from selm import names, streams
from selm.api.error.v1.error_reason_pb2 import ErrorReason, Failure
from selm.api.event.v1.erasure_event_pb2 import ErasureConfirmed, ErasureRequested
from selm.api.event.v1.feedback_event_pb2 import FeedbackErased
from selm.api.ops.v1 import erasure_pb2 as pb
from selm.delivery import Delivery
from selm.erasures import (
    ErasedEvent,
    ErasureOrder,
    Receipt,
    ReceiptState,
    TaintedRevision,
    Trouble,
)
from selm.errors import SelmError
from selm.lesson_events import datetime_of

_REASON = "ERROR_REASON_"


def requested(order: ErasureOrder) -> ErasureRequested:
    message = ErasureRequested(
        erasure=order.name,
        user=order.user,
        user_hash=streams.user_hash(order.user),
        reason=order.reason,
        requester=order.requester,
    )
    message.event_time.FromDatetime(order.time)
    return message


def order_of(delivery: Delivery) -> ErasureOrder:
    message = delivery.parse(ErasureRequested)
    return ErasureOrder(
        tenant=streams.tenant_of(delivery.subject),
        name=message.erasure,
        user=message.user,
        time=datetime_of(message.event_time),
        reason=message.reason,
        requester=message.requester,
    )


def confirmed(erasure: str, receipt: Receipt, now: datetime) -> ErasureConfirmed:
    message = ErasureConfirmed(erasure=erasure, receipt=render_receipt(receipt))
    message.event_time.FromDatetime(now)
    message.receipt.update_time.FromDatetime(now)
    return message


def receipt_of(delivery: Delivery) -> tuple[str, Receipt]:
    """Name of the erasure, and what a service says of its part."""
    message = delivery.parse(ErasureConfirmed)
    said = message.receipt
    receipt = Receipt(
        service=said.service,
        state=ReceiptState(said.state or ReceiptState.PENDING),
        num_memories=said.memory_count,
        num_feedback=said.feedback_count,
        num_generations=said.generation_count,
        num_datasets=said.dataset_count,
        revisions=tuple(
            TaintedRevision(r.adapter_revision, r.sha256, r.example_count, tuple(r.aliases))
            for r in said.revisions
        ),
        trouble=_trouble_of(said.failure) if said.HasField("failure") else None,
        update_time=datetime_of(message.event_time),
    )
    return message.erasure, receipt


def render_receipt(receipt: Receipt) -> pb.ErasureReceipt:
    rendered = pb.ErasureReceipt(
        service=receipt.service,
        state=pb.ErasureReceipt.State.ValueType(receipt.state),
        memory_count=receipt.num_memories,
        feedback_count=receipt.num_feedback,
        generation_count=receipt.num_generations,
        dataset_count=receipt.num_datasets,
        revisions=[
            pb.RevisionErasure(
                adapter_revision=revision.name,
                sha256=revision.sha256,
                example_count=revision.num_examples,
                aliases=revision.aliases,
            )
            for revision in receipt.revisions
        ],
    )
    if receipt.trouble is not None:
        rendered.failure.CopyFrom(_failure_of(receipt.trouble))
    if receipt.update_time is not None:
        rendered.update_time.FromDatetime(receipt.update_time)
    return rendered


def trouble_of(error: SelmError, now: datetime) -> Trouble:
    return Trouble(error.reason, error.message, error.metadata, True, now)


def erased_of(delivery: Delivery) -> tuple[str, list[ErasedEvent]]:
    """Name of the erasure that purged feedback, and what it purged."""
    message = delivery.parse(FeedbackErased)
    events = [
        ErasedEvent(e.feedback_event, e.digest, e.lesson, e.author, e.target)
        for e in message.events
    ]
    return message.erasure, events


def erasure_id_of(name: str) -> str:
    """The id in an erasure's name; ValueError if it is none."""
    ids = names.parse(names.ERASURE, name)
    if ids is None:
        raise ValueError(f"not an erasure name: {name!r}")
    return ids[0]


def _trouble_of(failure: Failure) -> Trouble:
    known = failure.reason in ErrorReason.values()
    return Trouble(
        reason=ErrorReason.Name(failure.reason).removeprefix(_REASON) if known else "INTERNAL",
        message=failure.message,
        metadata=dict(failure.metadata),
        retryable=failure.retryable,
        time=datetime_of(failure.time) if failure.HasField("time") else None,
    )


def _failure_of(trouble: Trouble) -> Failure:
    name = f"{_REASON}{trouble.reason}"
    is_known = name in ErrorReason.keys()  # noqa: SIM118 - an enum wrapper is no dict
    failure = Failure(
        reason=ErrorReason.Value(name if is_known else f"{_REASON}INTERNAL"),
        message=trouble.message,
        metadata=trouble.metadata,
        retryable=trouble.retryable,
    )
    if trouble.time is not None:
        failure.time.FromDatetime(trouble.time)
    return failure
