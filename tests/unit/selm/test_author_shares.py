"""No author supplies more than his share of what is kept."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from selm.author_shares import cap_author_share


def _author(item: str) -> str:
    return item.split("/", 1)[0]


def _items(**counts: int) -> list[str]:
    return [f"{author}/{index}" for author, count in counts.items() for index in range(count)]


def test_one_principal_with_ten_thousand_of_them_ends_at_the_cap() -> None:
    """T-23: 50 others with one each, five in a hundred: he keeps two of 52."""
    others = {f"a{index}": 1 for index in range(50)}

    kept, dropped = cap_author_share(_items(mallory=10_000, **others), _author, 0.05)

    assert Counter(map(_author, kept)) == {"mallory": 2, **others}
    assert len(dropped) == 9998


def test_a_single_author_under_the_whole_share_keeps_all() -> None:
    """A private adapter learns from its one user."""
    items = _items(ada=7)

    assert cap_author_share(items, _author, 1.0) == (items, [])


def test_too_few_authors_for_the_share_keep_nothing() -> None:
    """Two authors cannot both stay under two in five."""
    kept, dropped = cap_author_share(_items(a=3, b=9), _author, 0.4)

    assert kept == []
    assert len(dropped) == 12


def test_a_share_met_exactly_is_kept() -> None:
    """Three authors at a third each."""
    kept, _ = cap_author_share(_items(a=5, b=2, c=4), _author, 1 / 3)

    assert Counter(map(_author, kept)) == {"a": 2, "b": 2, "c": 2}


def test_the_first_of_each_author_are_kept_in_the_order_given() -> None:
    """Newest first in, newest kept."""
    items = ["a/3", "b/2", "a/2", "b/1", "a/1", "a/0"]

    kept, dropped = cap_author_share(items, _author, 0.5)

    assert kept == ["a/3", "b/2", "a/2", "b/1"]
    assert dropped == ["a/1", "a/0"]


def test_the_count_caps_too() -> None:
    """Whichever is less."""
    kept, _ = cap_author_share(_items(a=9, b=9, c=9), _author, 0.5, max_count=2)

    assert Counter(map(_author, kept)) == {"a": 2, "b": 2, "c": 2}
    assert cap_author_share([], _author, 0.5) == ([], [])


@given(
    st.lists(st.sampled_from("abcdefgh"), max_size=60),
    st.floats(0.01, 1.0),
    st.none() | st.integers(0, 10),
)
def test_no_author_ever_has_more_than_his_share(
    authors: list[str], max_share: float, max_count: int | None
) -> None:
    """And nothing is lost, and no larger cap would have held."""
    items = [f"{author}/{index}" for index, author in enumerate(authors)]

    kept, dropped = cap_author_share(items, _author, max_share, max_count)
    counts = Counter(map(_author, kept))

    assert sorted(kept + dropped) == sorted(items)
    assert all(count <= max_share * len(kept) + 1e-6 for count in counts.values())
    assert max_count is None or max(counts.values(), default=0) <= max_count
    largest = max(counts.values(), default=0) + 1
    more = [min(largest, count) for count in Counter(authors).values()]
    is_capped = max_count is not None and largest > max_count
    assert not dropped or is_capped or largest > max_share * sum(more)
