"""Resource names: spelled one way, parsed strictly."""

import pytest

from selm import names


@pytest.mark.parametrize(
    ("pattern", "name", "ids"),
    [
        (names.ADAPTER, "adapters/support", ("support",)),
        (names.REVISION, "adapters/support/revisions/r0123456789abcdef", None),
        (names.REVISION_OR_ALIAS, "adapters/support/revisions/stable", None),
        (names.ALIAS, "adapters/support/aliases/stable", ("support", "stable")),
        (names.MEMORY, "users/ana@x.org/memories/1f", ("ana@x.org", "1f")),
        (names.USER, "users/anonymous", ("anonymous",)),
        (names.FEEDBACK_EVENT, "feedbackEvents/51c0", ("51c0",)),
        (names.MODEL, "models/smollm2-135m-instruct", ("smollm2-135m-instruct",)),
    ],
)
def test_a_name_gives_back_its_ids(pattern: str, name: str, ids: tuple[str, ...] | None) -> None:
    """parse and format_name are each other's inverse."""
    parsed = names.parse(pattern, name)

    assert parsed is not None
    assert ids is None or parsed == ids
    assert names.format_name(pattern, *parsed) == name


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (names.ADAPTER, "adapters/Ab"),
        (names.ADAPTER, "adapters/ab"),
        (names.ADAPTER, "adapters/support/"),
        (names.ADAPTER, "adapters/support\n"),
        (names.ADAPTER, "xadapters/support"),
        (names.ADAPTER, ""),
        (names.USER, "users/"),
        (names.USER, "users/a b"),
        (names.USER, "users/" + "a" * 129),
        (names.USER, "users/a/b"),
        (names.USER, "users/ана"),
        (names.REVISION, "adapters/support/revisions/stable"),
        (names.REVISION, "adapters/support/revisions/r0123456789ABCDEF"),
        (names.ALIAS, "adapters/support/aliases/r0123456789abcdef"),
        (names.MEMORY, "users/ana/memories/.."),
        (names.LESSON, "lessons/*"),
        (names.LESSON, "lessons/>"),
    ],
)
def test_a_malformed_name_is_refused(pattern: str, name: str) -> None:
    """Nothing passes that could spell another resource, a path or a subject wildcard."""

    assert names.parse(pattern, name) is None


def test_an_alias_is_never_taken_for_a_revision() -> None:
    """An id of sixteen hex digits after r is always a revision."""

    assert names.is_id("revision", "r0123456789abcdef")
    assert not names.is_id("alias", "r0123456789abcdef")
    assert names.is_id("alias", "r0123456789abcdef-old")
    assert names.is_id("alias", "stable")


def test_new_ids_are_valid_and_differ() -> None:
    """Server-chosen ids fit the rule of every server-named resource."""
    first, second = names.new_id(), names.new_id()

    assert first != second
    assert names.parse(names.LESSON, names.lesson_name(first)) == (first,)
