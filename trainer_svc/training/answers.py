"""What makes a free answer exact or sound. Pure text rules; being right is for selm.questions."""

from __future__ import annotations

from selm.questions import normalise, normalise_answer


def is_exact(expected: str, answer: str) -> bool:
    """Whether the answer says the expected text and nothing else."""
    return normalise_answer(expected) == normalise_answer(answer)


def is_sound(answer: str) -> bool:
    """Whether the answer says something and does not go round in circles."""
    return any(sign.isalnum() for sign in answer) and not has_repetition(answer)


def has_repetition(answer: str, *, length: int = 4, limit: int = 3) -> bool:
    """Whether some run of `length` words comes back more than `limit` times."""
    words = normalise(answer).split()
    runs = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    return any(runs.count(run) > limit for run in set(runs))
