"""An erasure as it is answered."""

from selm.api.ops.v1 import erasure_pb2 as pb
from selm.erasure_events import render_receipt
from selm.erasures import SERVICES, Erasure


def render_erasure(erasure: Erasure) -> pb.Erasure:
    """With one receipt per service, also of those that have said nothing yet."""
    order = erasure.order
    completed, running = pb.Erasure.STATE_COMPLETED, pb.Erasure.STATE_RUNNING
    rendered = pb.Erasure(
        name=order.name,
        user=erasure.shown_user,
        state=completed if erasure.is_completed else running,
        reason=order.reason,
        requester=order.requester,
        receipts=[render_receipt(erasure.receipt(service)) for service in SERVICES],
    )
    rendered.create_time.FromDatetime(order.time)
    if (end_time := erasure.end_time) is not None:
        rendered.end_time.FromDatetime(end_time)
    return rendered
