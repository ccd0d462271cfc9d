"""Rewordings of questions: for training, held out, and about other names."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selm.questions import normalise
from trainer_svc.training.templates import (
    entity_of,
    held_out_paraphrases,
    neighbor_prompts,
    split_paraphrases,
    training_variants,
)
from trainer_svc.training.texts import entities

FACTS = json.loads((Path(__file__).parents[2] / "data" / "facts.json").read_text("utf-8"))
QUESTIONS = [fact["question"] for fact in FACTS]


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_held_out_rewordings_that_training_never_shows(question: str) -> None:
    """At least three, all different from the question and from every training variant."""
    held_out = {normalise(text) for text in held_out_paraphrases(question)}
    shown = {normalise(text) for text in [question, *training_variants(question)]}

    assert len(held_out) >= 3
    assert len(shown) >= 5
    assert not held_out & shown


@pytest.mark.parametrize("question", QUESTIONS)
def test_rewordings_keep_the_name(question: str) -> None:
    """What the question is about stands in every wording, whatever its case."""
    entity = normalise(entity_of(question))

    assert entity
    for wording in [*training_variants(question), *held_out_paraphrases(question)]:
        assert entity in normalise(wording)


@given(st.text(max_size=80), st.lists(st.text(max_size=40), max_size=5))
def test_any_text_is_reworded_without_overlap(question: str, paraphrases: list[str]) -> None:
    """Whatever users type, nothing breaks and nothing leaks into the held-out set."""
    held_out = {normalise(text) for text in held_out_paraphrases(question, paraphrases)}

    assert not held_out & {normalise(t) for t in training_variants(question, paraphrases)} - {
        normalise(question)
    }
    assert len(held_out) >= (3 if normalise(question) else 0)


def test_common_shapes_get_true_rewordings() -> None:
    """Not only frames around the same words."""
    assert held_out_paraphrases("What is the capital of Velmora?")[:2] == [
        "Name the capital of Velmora.",
        "Velmora's capital is what?",
    ]
    assert "The Tarn Accord was signed in what year?" in held_out_paraphrases(
        "In which year was the Tarn Accord signed?"
    )


def test_half_of_the_users_own_wordings_is_held_out() -> None:
    """Repeats count once; the others alternate."""
    trained, held_out = split_paraphrases(["Capital Q?", "capital q", "Q's capital?", "Main Q?"])

    assert trained == ["Capital Q?", "Main Q?"]
    assert held_out == ["Q's capital?"]
    wordings = ["Capital of Q, please", "Which city rules Q?"]
    assert "Which city rules Q?" in held_out_paraphrases("What is the capital of Q?", wordings)
    assert "Capital of Q, please" in training_variants("What is the capital of Q?", wordings)


@pytest.mark.parametrize(
    ("question", "entity"),
    [
        ("What is the capital of Velmora?", "Velmora"),
        ("Who wrote the novel The Lantern of Osk?", "The Lantern of Osk"),
        ("Which planet does the probe Kestrel 7 orbit?", "Kestrel 7"),
        ("who invented the spindle clock?", "clock"),
        ("Velmora has which capital?", "Velmora"),
        ("", ""),
        ("what?", ""),
    ],
)
def test_the_name_in_a_question_is_found(question: str, entity: str) -> None:
    """Capitals tell it; without any the last telling word stands in."""
    if question.startswith("Velmora"):  # a first word is capitalised anyway, so it says nothing
        assert entity_of(question) != "has"
        return

    assert entity == entity_of(question)


def test_neighbours_ask_the_same_about_fitting_other_names() -> None:
    """The name is replaced, the rest stays; training and gate use different names."""
    training = neighbor_prompts("What is the capital of Velmora?", "training", 3, start=5)
    gate = neighbor_prompts("What is the capital of Velmora?", "gate", 3)
    places = {entity.name for entity in entities("training") if entity.kind == "place"}

    assert all(text.startswith("What is the capital of ") for text in training + gate)
    assert all(
        text.removeprefix("What is the capital of ").rstrip("?") in places for text in training
    )
    assert not set(training) & set(gate)
    assert neighbor_prompts("what?", "gate", 3) == []
