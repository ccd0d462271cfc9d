"""Text rules of questions and answers."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selm.questions import (
    answer_contains,
    content_words,
    entity_words,
    last_sentences,
    may_ask_the_same,
    missing_words,
    normalise,
    normalise_answer,
    subject_key,
    without_words,
)


@pytest.mark.parametrize(
    "other",
    [
        "what is the capital of velmora",
        "  WHAT is the\tcapital of Velmora?!",
        "What is the capital of Velmora…",
        "“What is the capital of Velmora?”",
        "What is the capital of Ｖｅｌｍｏｒａ?",
    ],
)
def test_spelling_does_not_change_a_question(other: str) -> None:
    """Case, punctuation, spacing, quotes and width are folded."""
    assert subject_key("What is the capital of Velmora?") == subject_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is C?", "What is C++?"),
        ("What is C#?", "What is C++?"),
        ("What is 2+2?", "What is 2-2?"),
        ("What is 2 + 2?", "What is 2 * 2?"),
        ("Is it 3.5 or 35?", "Is it 35 or 35?"),
        ("What does NET mean?", "What does .NET mean?"),
        ("???", "!!!"),
        ("What is 😀?", "What is 😡?"),
        ("Who is Ann?", "Who is Anna?"),
    ],
)
def test_signs_that_carry_meaning_keep_questions_apart(one: str, other: str) -> None:
    """Code, sums, decimals and pictures are not punctuation."""
    assert subject_key(one) != subject_key(other)


def test_a_long_question_has_a_short_key() -> None:
    """Keys fit their field, and long questions still differ."""
    keys = {subject_key("word " * 1000 + end) for end in ("one", "two")}

    assert len(keys) == 2
    assert max(len(key.encode()) for key in keys) <= 256


@given(st.text())
@example("0/_")
@example("_1,000")
@example("'_'.a")
def test_normalising_twice_is_normalising_once(text: str) -> None:
    """The normal form is its own normal form."""
    assert normalise(text) == normalise(normalise(text))


@given(st.text(min_size=1))
def test_any_text_has_entity_words_that_it_holds(text: str) -> None:
    """The guard never refuses the very question that a memory was made of."""
    assert missing_words(entity_words(text), text) == []


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the capital of Velmora?", ["velmora"]),
        ("Velmora's capital is which city?", ["velmora"]),
        ("what is the capital of velmora", ["velmora"]),
        ("Who wrote The Glass Orchard?", ["glass", "orchard"]),
        ("Which team won the Halberd Cup in 2019?", ["halberd", "cup", "2019"]),
        ("Who is the CEO of Brannick Labs?", ["brannick", "labs"]),
        ("What Is The Capital Of Velmora?", ["velmora"]),
        ("WHAT IS THE CAPITAL OF VELMORA?", ["velmora"]),
        ("Who is the president of the US?", ["us"]),
        ('What does "free lunch" mean here?', ["free", "lunch"]),
        ("which vitamin is abundant in the fruit jelpa", ["jelpa"]),
        ("who invented the tidal loom", ["tidal", "loom"]),
        ("What is it?", ["what"]),
    ],
)
def test_entity_words_name_what_a_question_is_about(question: str, expected: list[str]) -> None:
    """Names, numbers and quoted words; in lower-cased text the words that are no plain English."""
    assert expected == entity_words(question)


@pytest.mark.parametrize(
    ("entity", "text"),
    [
        ("Velmora", "what is velmora's capital"),
        ("Velmora", "the Velmoras"),
        ("Zürich", "trains to zurich"),
        ("Wi-Fi", "wifi password"),
        ("Wi-Fi", "wi fi password"),
        ("10,000", "about 10000 people"),
    ],
)
def test_entity_words_are_found_in_other_spellings(entity: str, text: str) -> None:
    """Possessive, plural, accent, hyphen and separators are forgiven."""
    assert missing_words(entity_words(entity), text) == []


def test_an_absent_entity_is_named() -> None:
    """The words that the query lacks are told."""
    words = entity_words("Who won the Halberd Cup in 2019?")

    assert missing_words(words, "who won the halberd cup in 2021") == ["2019"]


def test_what_is_left_without_the_entity_is_what_is_asked() -> None:
    """The form of a question, for comparing relations."""
    assert without_words("What is Velmora's capital?", ["velmora"]) == "what is capital"
    assert content_words("What is Velmora's capital?") == ["velmora"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I have a test. What is Velmora's capital?", "What is Velmora's capital?"),
        ("What is Velmora's capital? Tell me quickly.", None),
        ("When did No. 2 Velmora end?", None),
        ("By J.R. Velmora", None),
        ("What is the capital of Brindoria?", None),
    ],
)
def test_a_lead_in_is_left_out(text: str, expected: str | None) -> None:
    """The last sentences that hold the entity words; abbreviations end no sentence."""
    assert last_sentences(text, ["velmora"]) == (expected or text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who founded Velmora?", "When was Velmora founded?"),
        ("Who was the first king?", "Who was the last king?"),
        ("What is the largest city?", "What is the second largest city?"),
        ("What is the minimum speed?", "What is the maximum speed?"),
        ("Who is the mother of Ilsa?", "Who is the father of Ilsa?"),
        ("How old is it?", "Why is it old?"),
        ("Which city is it in?", "Which country is it in?"),
        ("What is the date of birth of Ilsa?", "What is the place of birth of Ilsa?"),
        ("Who'd build it?", "Where'd they build it?"),
    ],
)
def test_listed_contrasts_ask_different_things(one: str, other: str) -> None:
    """Asking words and contrasting words that an embedding hardly tells apart."""
    assert not may_ask_the_same(one, other)
    assert not may_ask_the_same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who wrote it?", "Which person is the author?"),
        ("In what year was it founded?", "When was it founded?"),
        ("Who was the first king?", "Name the first king."),
        ("What is the highest mountain?", "Which mountain is the tallest?"),
        ("Where'd he live when he died?", "Where did he live when he died?"),
        ("Where did it take place?", "What was the place?"),
        ("Which city or country is it in?", "Which country is it in?"),
    ],
)
def test_rewording_may_ask_the_same(one: str, other: str) -> None:
    """Synonyms are no contrast, and "what" says nothing."""
    assert may_ask_the_same(one, other)


@pytest.mark.parametrize(
    ("expected", "text", "is_right"),
    [
        ("the drell", "The answer is The Drell.", True),
        ("the drell", "A drell is what they pay with.", True),
        ("ten", "That happens often.", False),
        ("1,000", "About 1000 people.", True),
        ("3.5", "It is 35.", False),
        ("", "anything", False),
        ("Mount Orrin", "Mount\nOrrin", True),
    ],
)
def test_right_means_the_answer_stands_in_the_text(
    expected: str, text: str, is_right: bool
) -> None:
    """Whole words after normalisation; a leading article does not matter."""
    assert is_right == answer_contains(expected, text)


def test_an_article_alone_is_an_answer() -> None:
    """Nothing is stripped down to nothing."""
    assert normalise_answer("A") == "a"
