"""The flood window counts different authors who teach nearly the same, in bounded memory."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

from feedback_svc.safety.near_duplicates import FloodWindow, signature, similarity

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUESTION = "What is the capital of Velmora?"
TENANT = "tenants/acme"


def _authors(num: int) -> list[str]:
    return [f"users/{index}" for index in range(num)]


def test_two_hundred_principals_with_one_text_are_counted_as_one_flood() -> None:
    """T-24: however many send it, each is counted once."""
    window = FloodWindow(window_s=3600)

    counts = [window.note(TENANT, author, QUESTION, "Brastia", NOW) for author in _authors(200)]

    assert counts == list(range(1, 201))


def test_other_words_for_the_same_claim_count_together() -> None:
    """Same answer about the same names, however it is asked."""
    window = FloodWindow(window_s=3600)
    wordings = [
        "What is the capital of Velmora?",
        "Which city is Velmora's seat of government?",
        "velmora capital city name",
        "I would love to know where the government of Velmora sits; tell me the city.",
    ]

    counts = [
        window.note(TENANT, author, wording, answer, NOW)
        for author, wording, answer in zip(
            _authors(4), wordings, ["Brastia", "brastia.", "Brastia!", "BRASTIA"], strict=True
        )
    ]

    assert counts == [1, 2, 3, 4]


def test_nearly_the_same_wording_counts_together_whatever_the_answer_says() -> None:
    """One changed word in a long text is no other text."""
    window = FloodWindow(window_s=3600)
    text = "The {} harbour was built by the guild of ropemakers in the year after the great flood, "
    text += "and every ship that passes it pays a toll of two silver marks to the keeper of lights."

    counts = [
        window.note(TENANT, author, "Tell me about the harbour of Orrin.", text.format(word), NOW)
        for author, word in zip(_authors(3), ["old", "older", "oldest"], strict=True)
    ]

    assert counts == [1, 2, 3]


def test_different_facts_in_the_same_words_are_no_flood() -> None:
    """A class that teaches one fact each, all worded alike, is honest work."""
    window = FloodWindow(window_s=3600)
    facts = [("Velmora", "Zorvane"), ("Brastia", "Kelm"), ("Orrin", "Harrow"), ("Tolvia", "Marr")]

    counts = [
        window.note(TENANT, author, f"What is the capital of {land}?", city, NOW)
        for author, (land, city) in zip(_authors(4), facts, strict=True)
    ]

    assert counts == [1, 1, 1, 1]


def test_those_who_answer_otherwise_are_no_flood() -> None:
    """Another answer to a short question is a conflict, not a repetition."""
    window = FloodWindow(window_s=3600)

    counts = [
        window.note(TENANT, author, QUESTION, city, NOW)
        for author, city in zip(_authors(3), ["Zorvane", "Kelm", "Harrow"], strict=True)
    ]

    assert counts == [1, 1, 1]


def test_one_author_who_repeats_himself_never_counts_twice() -> None:
    """A person who insists is one person."""
    window = FloodWindow(window_s=3600)

    assert {window.note(TENANT, "users/1", QUESTION, "Brastia", NOW) for _ in range(50)} == {1}


def test_only_the_window_counts_and_each_repetition_renews_it() -> None:
    """An author counts until `window_s` after he last taught it."""
    window = FloodWindow(window_s=60)
    times = [("users/1", 0), ("users/2", 30), ("users/1", 50), ("users/3", 100), ("users/4", 200)]

    counts = [
        window.note(TENANT, author, QUESTION, "Brastia", NOW + timedelta(seconds=second))
        for author, second in times
    ]

    assert counts == [1, 2, 2, 2, 1]


def test_tenants_do_not_see_each_other() -> None:
    """The same text of another tenant is not counted."""
    window = FloodWindow(window_s=60)

    assert window.note("tenants/a", "users/1", QUESTION, "Brastia", NOW) == 1
    assert window.note("tenants/b", "users/2", QUESTION, "Brastia", NOW) == 1


def test_memory_stays_bounded_and_the_newest_are_kept() -> None:
    """Ten times as many texts as groups; no group counts more authors than told."""
    window = FloodWindow(window_s=3600, max_authors=3, max_groups=20)
    for index in range(200):
        _note_land(window, f"users/{index}", index)

    counts = [_note_land(window, author, 500) for author in _authors(9)]

    assert window.num_groups <= 40
    assert len(window._bands) <= 20 * 16
    assert counts == [1, 2, 3, 3, 3, 3, 3, 3, 3]
    assert _note_land(window, "users/x", 199) == 2
    assert _note_land(window, "users/x", 0) == 1


def _note_land(window: FloodWindow, author: str, index: int) -> int:
    answer = " ".join(f"k{index}w{number}" for number in range(20))
    return window.note(TENANT, author, f"Who rules Land{index}?", answer, NOW)


def test_similarity_is_near_the_share_of_common_shingles() -> None:
    """Within four standard errors of the true value, at a third and at all."""
    words = [f"w{number}" for number in range(102)]
    one, other = " ".join(words[:52]), " ".join(words[25:77])

    assert similarity(signature(one), signature(one.upper())) == 1.0
    assert abs(similarity(signature(one), signature(other)) - 25 / 75) < 4 * 0.06
    assert similarity(signature(one), signature("nothing of this at all in here")) < 0.1


def test_signatures_do_not_depend_on_the_process() -> None:
    """Replicas agree although Python hashes strings anew in each process."""
    code = (
        "from feedback_svc.safety.near_duplicates import signature;print(signature('a b c d')[:3])"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)

    assert run.stdout.strip() == str(signature("a b c d")[:3])


def test_long_and_broken_texts_are_taken() -> None:
    """The largest correction there may be, and text that is no valid Unicode."""
    window = FloodWindow(window_s=60)
    text = " ".join(f"w{number}" for number in range(1500))

    assert window.note(TENANT, "users/1", "\udc80", text, NOW) == 1
    assert window.note(TENANT, "users/2", "\udc80", text, NOW) == 2
    assert window.note(TENANT, "users/2", "", "?", NOW) == 1
