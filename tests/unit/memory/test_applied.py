"""How far FEEDBACK is applied."""

import asyncio

import pytest

from memory_svc.applied import AppliedEvents
from selm.errors import SelmError, unavailable


async def unknown() -> int:
    raise unavailable("BUS_UNAVAILABLE", "no bus")


async def test_the_floor_rises_only_without_gaps() -> None:
    """Later events are applied, but do not vouch for earlier ones."""
    applied = AppliedEvents(unknown)
    for sequence in (1, 3, 4):
        applied.note(sequence)
    before = applied.floor
    applied.note(2)

    assert (before, applied.floor) == (1, 4)


async def test_an_event_counts_before_those_ahead_of_it() -> None:
    """A token asks for its own event; one that is being retried does not hold it up."""
    applied = AppliedEvents(unknown)
    applied.note(7)

    await applied.wait_for(7, timeout_s=0)
    assert [applied.has(6), applied.has(7)] == [False, True]


async def test_the_acknowledged_floor_fills_gaps() -> None:
    """Purged messages and those of other replicas never come here."""
    applied = AppliedEvents(unknown)
    applied.note(5)
    applied.raise_floor(4)

    assert applied.floor == 5


async def test_a_waiting_search_is_told_at_once() -> None:
    """Whoever waits goes on when the event is applied."""
    applied = AppliedEvents(unknown)
    waiting = asyncio.create_task(applied.wait_for(1, timeout_s=30))
    await asyncio.sleep(0)
    applied.note(1)

    await asyncio.wait_for(waiting, timeout=5)


async def test_another_replicas_work_is_found_by_asking() -> None:
    """The floor of the shared consumer counts."""

    async def nine() -> int:
        return 9

    await AppliedEvents(nine).wait_for(9, timeout_s=30)


async def test_the_wait_ends_with_what_is_known() -> None:
    """CONSISTENCY_NOT_REACHED names both places."""
    applied = AppliedEvents(unknown)
    applied.note(1)
    with pytest.raises(SelmError) as refused:
        await applied.wait_for(3, timeout_s=0)

    assert refused.value.reason == "CONSISTENCY_NOT_REACHED"
    assert refused.value.metadata == {"wanted_sequence": "3", "applied_sequence": "1"}


async def test_waiting_for_all_does_not_pass_a_gap() -> None:
    """An event that is retried is not applied, though a later one is."""
    applied = AppliedEvents(unknown)
    applied.note(1)
    applied.note(3)
    await applied.wait_for(3, timeout_s=0)
    with pytest.raises(SelmError) as refused:
        await applied.wait_for_all(3, timeout_s=0)
    applied.note(2)
    await applied.wait_for_all(3, timeout_s=0)

    assert refused.value.reason == "CONSISTENCY_NOT_REACHED"
