"""Generations that were looked up a moment ago: found again, bounded by bytes and by age."""

import asyncio

from feedback_svc import core
from feedback_svc.stream.generations import RecentGenerations


def generation(name: str, size: int = 0) -> core.GenerationRecord:
    exchange = core.Exchange(b"x" * size, "", "")
    return core.GenerationRecord(name, "users/ada", "", "", exchange)


async def test_one_is_found_by_its_own_tenant_alone():
    recent = RecentGenerations()
    recent.keep("a", generation("generations/g"))
    assert recent.find("a", "generations/g") == generation("generations/g")
    assert recent.find("b", "generations/g") is None


async def test_the_least_recently_looked_up_goes_first():
    recent = RecentGenerations(max_bytes=40_000)
    for name in ("one", "two", "three"):
        recent.keep("a", generation(name, 10_000))
    recent.find("a", "one")
    recent.keep("a", generation("four", 10_000))
    held = [name for name in ("one", "two", "three", "four") if recent.find("a", name)]
    assert held == ["one", "three", "four"]


async def test_one_that_is_larger_than_all_is_not_held():
    recent = RecentGenerations(max_bytes=1_000)
    recent.keep("a", generation("large", 10_000))
    assert recent.find("a", "large") is None


async def test_an_old_one_is_looked_up_again():
    recent = RecentGenerations(max_age_s=0.01)
    recent.keep("a", generation("g"))
    await asyncio.sleep(0.02)
    assert recent.find("a", "g") is None


async def test_nothing_is_left_after_an_erasure():
    recent = RecentGenerations()
    recent.keep("a", generation("g"))
    recent.clear()
    assert recent.find("a", "g") is None
