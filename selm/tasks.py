"""Ending tasks for certain. Knows nothing of what they do.

Up to Python 3.11 asyncio.wait_for, which nats-py is full of, drops a cancellation that comes
together with the result it waited for; a loop that goes on from there would never end.
"""

import asyncio
from collections.abc import Collection


def honour_cancellation() -> None:
    """Raise CancelledError if the running task was cancelled, even if a library swallowed that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def end_tasks(tasks: Collection["asyncio.Task[None]"]) -> None:
    """Cancel tasks, again if need be, until all have ended."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.5)
