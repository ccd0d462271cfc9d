"""Text leaves in whole characters, adds up to the whole, and never contains a stop sequence."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from inference_svc.engine.detokenizer import Detokenizer, StopScanner

TEXTS = [
    "plain words, here.",
    "Zürich 🙂 naïve",
    "日本語のテキスト",
    "👩‍👩‍👧‍👦 family",
    "a\n\n  b\t",
]


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Tokenizer:
    return Tokenizer.from_file(str(smollm2 / "tokenizer.json"))


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_and_add_up(tokenizer: Tokenizer, text: str) -> None:
    """No piece holds a broken character, and together they are the text."""
    detokenizer = Detokenizer(tokenizer.decode)
    pieces = [detokenizer.add(token) for token in tokenizer.encode(text).ids]

    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.finish() == text


def test_unfinished_character_leaves_at_the_end_only(tokenizer: Tokenizer) -> None:
    """Half an emoji is held back until nothing more can come."""
    detokenizer = Detokenizer(tokenizer.decode)
    half = tokenizer.encode("🦊").ids[:1]

    assert [detokenizer.add(token) for token in half] == [""]
    assert detokenizer.finish() == tokenizer.decode(half)


def test_prompt_before_does_not_leave(tokenizer: Tokenizer) -> None:
    """The end of the prompt is context, not output."""
    detokenizer = Detokenizer(tokenizer.decode, tokenizer.encode("The answer is").ids)
    pieces = [detokenizer.add(token) for token in tokenizer.encode(" Paris.").ids]

    assert "".join(pieces) == " Paris."


def scan(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    scanner, out = StopScanner(stops), ""
    for piece in pieces:
        out += scanner.push(piece)
        if scanner.is_stopped:
            return out, True
    return out + scanner.finish(), False


def test_stop_sequence_across_pieces_is_cut() -> None:
    """A stop sequence that arrives in pieces is found, and nothing of it leaves."""
    assert scan(["END"], ["one E", "N", "D two"]) == ("one ", True)


def test_earliest_of_several_stops_wins() -> None:
    """The first place in the text decides, not the order of the list."""
    assert scan(["b", "a"], ["xxa b"]) == ("xx", True)


def test_held_text_leaves_when_it_becomes_no_stop() -> None:
    """Text that only began like a stop sequence is not lost."""
    assert scan(["END"], ["one EN", "TER EN"]) == ("one ENTER EN", False)


@settings(max_examples=200, deadline=None)
@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_no_stop_sequence_leaves_and_nothing_else_is_lost(text: str, stops: list[str]) -> None:
    """Letter by letter: stopped if and only if a stop sequence is in the text, else all of it."""
    out, is_stopped = scan(stops, list(text))

    assert is_stopped == any(stop in text for stop in stops)
    assert text.startswith(out) if is_stopped else out == text
    assert not any(stop in out for stop in stops)
