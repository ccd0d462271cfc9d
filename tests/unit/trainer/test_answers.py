"""Soundness of free answers."""

from trainer_svc.training.answers import has_repetition, is_exact, is_sound


def test_exact_forgives_case_and_punctuation_but_no_words() -> None:
    """Reported beside the judgement by containment."""
    assert is_exact("Zorvane", "zorvane.")
    assert not is_exact("Zorvane", "It is Zorvane.")


def test_going_round_in_circles_is_not_sound() -> None:
    """Four words that come back more than three times; an empty answer neither."""
    assert has_repetition("the sea is blue " * 4)
    assert not has_repetition("the sea is blue " * 3)
    assert not is_sound(" ... ")
    assert is_sound("Paris.")
