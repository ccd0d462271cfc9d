"""Memories to test with."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from memory_svc.core import Memory, MemoryType, Visibility, with_keys

START = datetime(2031, 1, 1, tzinfo=UTC)


def memory(
    question: str = "What is the capital of Velmora?",
    text: str = "Tashkeri",
    *,
    number: int = 1,
    **fields: Any,
) -> Memory:
    """A correction; later numbers were said later."""
    time = START + timedelta(minutes=number)
    made = Memory(
        tenant="t",
        user=fields.pop("user", "users/a"),
        memory_id=f"m{number}",
        type=fields.pop("type", MemoryType.CORRECTION),
        text=text,
        question=question,
        subject_key="",
        visibility=Visibility.PRIVATE,
        create_time=time,
        update_time=time,
        sequence=fields.pop("sequence", number),
        lesson=fields.pop("lesson", f"lessons/{number}"),
        feedback_event=fields.pop("feedback_event", f"feedbackEvents/{number}"),
        vector=(1.0, 0.0),
    )
    return with_keys(replace(made, **fields))
