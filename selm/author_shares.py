"""No author supplies more than a share of a set: the cap on influence over what is trained. Pure.

Shared by feedback_svc, which freezes datasets, and trainer_svc, which trains on them.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def cap_author_share(
    items: Iterable[Item],
    author_of: Callable[[Item], str],
    max_share: float,
    max_count: int | None = None,
) -> tuple[list[Item], list[Item]]:
    """What is kept and what is dropped, each in the order given; of an author the first are kept.

    No author has more than `max_share` of what is kept, nor more than `max_count`. The share is of
    the kept, not of the given: dropping makes the others' share grow, so the cap is the largest
    number that holds after it was applied. With fewer authors than 1 / max_share there is none,
    and nothing is kept.
    """
    given = list(items)
    counts = Counter(author_of(item) for item in given)
    cap = _largest_cap(list(counts.values()), max_share)
    if max_count is not None:
        # A lower cap for all never lifts a share: the largest supplier shrinks the most.
        cap = min(cap, max_count)
    taken: Counter[str] = Counter()
    kept: list[Item] = []
    dropped: list[Item] = []
    for item in given:
        author = author_of(item)
        taken[author] += 1
        (kept if taken[author] <= cap else dropped).append(item)
    return kept, dropped


def _largest_cap(counts: list[int], max_share: float) -> int:
    """The largest number per author that is at most max_share of the sum it leaves.

    The sum grows ever more slowly with the cap, so that a cap holds if a larger one does: bisect.
    """
    low, high = 0, max(counts, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if _holds(middle, counts, max_share):
            low = middle
        else:
            high = middle - 1
    return low


def _holds(cap: int, counts: list[int], max_share: float) -> bool:
    # A hair of tolerance: a third of three is one.
    return cap <= max_share * sum(min(cap, count) for count in counts) + 1e-9
