"""An event as one line of an export."""

from google.protobuf import json_format

from feedback_svc import core
from feedback_svc.render.events import render_event


def render_line(record: core.FeedbackRecord, exchange: core.Exchange | None) -> str:
    """Canonical ProtoJSON of the event with its exchange; ASCII, so no reader sees a line break."""
    event = render_event(record)
    if exchange is not None:
        event.exchange.input.ParseFromString(exchange.content)
        event.exchange.answer = exchange.answer
    line: str = json_format.MessageToJson(event, indent=None)
    return line
