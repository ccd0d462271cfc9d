"""Reconciling: what stands in the way of one adapter stands in the way of no other."""

import asyncio
import contextlib

import pytest

from selm.errors import SelmError
from trainer_svc.training.desk import Desk


class NoAdapters:
    """A registry that lists nothing, and announcements that are complete."""

    async def list_everywhere(self) -> list[object]:
        return []

    async def reconcile(self) -> None:
        return None


class KeeperStub:
    """Fails at adapter `bad`."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def settle(self, tenant: str, adapter_id: str) -> None:
        if adapter_id == "bad":
            raise self.error


@pytest.mark.parametrize(
    "error", [SelmError("RESOURCE_NOT_FOUND", "no evaluation"), ValueError("damaged")]
)
async def test_an_adapter_that_cannot_be_settled_leaves_the_others_settled(error) -> None:
    """It alone is tried again, and the trainer goes on."""
    nothing = NoAdapters()
    desk = Desk(nothing, None, nothing, KeeperStub(error), None, None)
    desk.unsettled.update((f"tenant-{n}", name) for n in range(8) for name in ("bad", "good"))
    task = asyncio.create_task(desk.run())
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert desk.unsettled == {(f"tenant-{n}", "bad") for n in range(8)}
