"""Where a watch of events goes on."""

import asyncio
from dataclasses import replace

from feedback_svc.reading.changes import MAX_CHUNK, Changes
from tests.unit.feedback.records import RECORD


def told(*changes):
    """Changes that heard of these names and positions."""
    heard = Changes()
    for name, position in changes:
        heard.hear(replace(RECORD, name=name), position)
    return heard


def test_what_follows_a_position_comes_in_order():
    """A decision brings the same event again, at its own place."""
    changes = told(("e1", 3), ("e2", 5), ("e1", 8)).of("t")
    assert changes.newest == 8
    assert changes.after(0) == [("e1", 3), ("e2", 5), ("e1", 8)]
    assert changes.after(3) == changes.after(4) == [("e2", 5), ("e1", 8)]
    assert changes.after(8) == []
    assert [changes.num_after(position) for position in (0, 5, 9)] == [3, 1, 0]


def test_changes_are_taken_in_bounded_pieces():
    """However far back a reader begins."""
    changes = told(*((f"e{n}", n) for n in range(1, MAX_CHUNK + 10))).of("t")
    first = changes.after(0)
    assert len(first) == MAX_CHUNK
    assert changes.after(first[-1][1])[0] == (f"e{MAX_CHUNK + 1}", MAX_CHUNK + 1)


def test_an_erasure_of_many_events_is_passed_only_after_its_last():
    """One message changes them all; who is cut off in the middle gets it again."""
    changes = told(("e1", 7), ("e1", 9), ("e2", 9), ("e3", 9)).of("t")
    assert changes.after(7) == [("e1", 8), ("e2", 8), ("e3", 9)]


def test_an_erasure_of_more_events_than_a_piece_is_passed_as_one():
    """They share one place: a piece that ended among them would come again for ever."""
    changes = told(("e0", 7), *((f"e{n}", 9) for n in range(MAX_CHUNK + 40))).of("t")
    assert len(changes.after(8)) == MAX_CHUNK + 40
    assert changes.after(changes.after(8)[-1][1]) == []


def test_tenants_do_not_see_each_other():
    """Each has its own log."""
    heard = told(("e1", 1))
    assert heard.of("other").after(0) == []


async def test_a_change_wakes_everybody_who_waits():
    """Also if another of them left meanwhile."""
    heard = told(("e1", 1))
    changes = heard.of("t")
    waiting = [asyncio.create_task(changes.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    heard.hear(replace(RECORD, name="e2"), 2)
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), 1)


def test_a_broker_that_lost_its_disk_ends_every_place():
    """Positions begin anew, so the old ones mean nothing; whoever holds one can tell."""
    heard = told(("e1", 7))
    before = heard.of("t").epoch
    heard.hear(replace(RECORD, name="e9"), 1)
    assert heard.of("t").epoch == before + 1
    assert heard.of("t").after(0) == [("e9", 1)]
