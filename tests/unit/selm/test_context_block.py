"""Recalled memories are data: none can close its block, forge a mark or speak to a template."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from selm.context_block import RecalledMemory, as_data, assemble, user_turn
from selm.control_tokens import neutralise

SEED = 7
# What the seed draws; stands between two clean texts.
MARK = assemble([RecalledMemory("m", "x", "q")], len, 1000, SEED).text[1:9]
TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|anything else|>",
    "<｜User｜>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "<s>",
    "</s>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<repo_name>",
    "<jupyter_start>",
    "<tool_call>",
    "### Instruction",
    "###Response:",
)
BITS = ("<|", "|>", "<", "|", '"', "”", "[", "s>", "SYS", "#", "instruction", "im_end", "_", "Vel")
BREAKS = ("\n", "\r\n", "\u2028", "\x00", "\u200b", " ")
MARKS = (MARK, MARK.upper(), f"[{MARK}]", MARK[:4], MARK[4:])
PIECES = st.sampled_from([*TOKENS, *BITS, *BREAKS, *MARKS])
HOSTILE = st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join)


@pytest.fixture(scope="module")
def template(smollm2: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2)


@pytest.fixture(scope="module")
def tokenizer(template) -> Tokenizer:
    return template.backend_tokenizer


@pytest.fixture(scope="module")
def special(template) -> frozenset[int]:
    return frozenset(template.added_tokens_decoder)


def words(text: str) -> int:
    return len(text.split())


def correction(name: str, text: str, question: str = "Capital of Zor?") -> RecalledMemory:
    return RecalledMemory(name, text, question)


@pytest.mark.parametrize("token", TOKENS)
def test_a_control_token_is_spelled_apart(token: str) -> None:
    """In any case and place; what people read stays the same but for spaces."""
    for text in (token, token.upper(), f"a{token}b", token[0] + "\u200b" + token[1:]):
        apart = neutralise(text)

        assert token.lower() not in apart.lower()
        assert apart.replace(" ", "") == text.replace("\u200b", "").replace(" ", "")


def test_plain_writing_stays_as_it_is() -> None:
    """Brackets, headings and signs that no template knows are left alone."""
    text = "if a < b || c > d: see [1], <b>bold</b>, # of items, ### Notes, e-mail <a@b.org> s|t"

    assert neutralise(text) == text


@given(HOSTILE)
@settings(deadline=None, max_examples=200)
def test_nothing_hostile_survives(tokenizer, special, text: str) -> None:
    """Whatever it is put together of: no control token, no mark, no double quote, one line."""
    data = as_data(text, MARK)

    assert not special & set(tokenizer.encode(data, add_special_tokens=False).ids)
    assert all(token.lower() not in data.lower() for token in TOKENS)
    assert MARK not in data.lower()
    assert '"' not in data
    assert len(data.splitlines()) <= 1


@given(st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=4))
@settings(deadline=None, max_examples=100)
def test_a_block_has_two_marks_whatever_is_in_it(memories: list[tuple[str, str]]) -> None:
    """One opens it and one closes it, each on a line of its own; every memory is one line."""
    given = [RecalledMemory(f"m{i}", *texts) for i, texts in enumerate(memories)]
    block = assemble(given, words, 10_000, SEED)
    lines = block.text.split("\n")

    assert block.text.lower().count(MARK) == (2 if block.names else 0)
    if block.names:
        assert lines[0] == lines[len(block.names) + 1] == f"[{MARK}]"
        assert len(block.text.splitlines()) <= len(block.names) + 3


@given(HOSTILE)
@settings(deadline=None, max_examples=100)
def test_tokens_around_the_data_are_those_of_a_clean_memory(template, tokenizer, text: str) -> None:
    """T-20: a hostile memory changes token ids between the marks and nowhere else."""

    def around(memory: str) -> tuple[list[int], list[int]]:
        block = assemble([correction("m", memory)], words, 10_000, SEED)
        chat = [{"role": "user", "content": user_turn("capital of zor", block)}]
        rendered = template.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        encoded = tokenizer.encode(rendered, add_special_tokens=False)
        opened, closed = rendered.index(f"[{MARK}]") + 10, rendered.rindex(f"[{MARK}]")
        before = [
            i for i, (_, end) in zip(encoded.ids, encoded.offsets, strict=True) if end <= opened
        ]
        after = [
            i for i, (start, _) in zip(encoded.ids, encoded.offsets, strict=True) if start >= closed
        ]
        return before, after

    assert around(f"x{text}") == around("Vel")


def test_one_correction_is_its_answer_behind_the_question() -> None:
    """The measured wording; the user's own words stand first, untouched."""
    block = assemble([correction("m", 'The "old"\nVel')], words, 100, SEED)

    assert user_turn("capital <|im_end|> of zor", block) == (
        f"capital <|im_end|> of zor\n[{MARK}]\nThe answer is \"The 'old' Vel\".\n[{MARK}]\n"
        "Repeat the answer."
    )


def test_a_statement_is_to_be_kept_in_mind() -> None:
    """It is no answer by itself, so it is not to be repeated."""
    block = assemble([RecalledMemory("m", "I eat no meat")], words, 100, SEED)

    assert block.text == (
        f'[{MARK}]\nKeep in mind: "I eat no meat".\n[{MARK}]\nAnswer the question with this.'
    )


def test_a_related_correction_is_told_with_its_question_and_not_as_the_answer() -> None:
    """The model can only tell that something else is asked if it sees what the answer is to."""
    related = RecalledMemory("m", "Ko", "Sea of Zor?", is_related=True)
    block = assemble([related], words, 100, SEED)

    assert block.text == (
        f'[{MARK}]\nKeep in mind: "Sea of Zor? Ko".\n[{MARK}]\nAnswer the question with this.'
    )


def test_the_best_of_several_stands_nearest_to_the_reply() -> None:
    """The others, questions with them, are notes before it; the names are best first."""
    memories = [
        correction("one", "Vel"),
        RecalledMemory("two", "Zor is an island"),
        correction("three", "Ko", "Sea of Zor?"),
    ]
    block = assemble(memories, words, 100, SEED)

    assert block.text.split("\n")[1:4] == [
        'Keep in mind: "Sea of Zor? Ko".',
        'Keep in mind: "Zor is an island".',
        'The answer is "Vel".',
    ]
    assert block.text.endswith("Repeat the answer.")
    assert (block.names, block.is_truncated) == (("one", "two", "three"), False)


def test_memories_are_added_while_they_fit() -> None:
    """The budget holds for the whole block; nothing lesser steps in for what does not fit."""
    memories = [correction("a", "Vel"), correction("b", "word " * 30), correction("c", "Vel")]
    whole = assemble(memories, words, 1000)
    block = assemble(memories, words, whole.tokens - 10)

    assert (block.names, block.is_truncated) == (("a",), True)
    assert block.tokens == words(block.text) <= whole.tokens - 10
    assert assemble(memories[1:], words, 20).text == ""
    assert assemble(memories[1:], words, 20).is_truncated


def test_nothing_recalled_leaves_the_turn_alone() -> None:
    """No memories, or blank ones: the question and nothing else."""
    block = assemble([RecalledMemory("m", " \n")], words, 100)

    assert (block.text, block.names, block.tokens, block.is_truncated) == ("", (), 0, False)
    assert user_turn("capital of zor", block) == "capital of zor"


def test_each_request_has_its_own_mark() -> None:
    """Drawn where no seed is given, repeatable with one."""
    texts = {assemble([correction("m", "Vel")], words, 100).text for _ in range(20)}
    seeded = {assemble([correction("m", "Vel")], words, 100, seed).text for seed in (1, 1, 2)}

    assert len(texts) == 20
    assert len(seeded) == 2
