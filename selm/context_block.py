"""Recalled memories as a block of data in the user's turn. Never belongs into the system role.

What others once said is data and must not become an instruction: control tokens are spelled apart,
a text is one line without double quotes, and the block stands between two marks, drawn anew for
each request, which no text inside can contain. Knows no store, no model and no wire: tokens are
counted by whoever knows them.
"""

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from selm.control_tokens import neutralise, on_one_line

Count = Callable[[str], int]

_MARK_DIGITS = 8
_DOUBLE_QUOTES = re.compile('["“”„‟＂]')
# NOTE: the wording is measured (inference_svc/README.md); small models follow few others.
_SAY_THE_ANSWER = "Repeat the answer."
_USE_THE_NOTES = "Answer the question with this."


@dataclass(frozen=True)
class RecalledMemory:
    """A memory to be put into a prompt: a question with its answer, or a statement."""

    name: str
    text: str
    # What `text` answers; empty for statements.
    question: str = ""
    # The user may ask something else about the same: told with its question, and not as the answer.
    is_related: bool = False

    @property
    def is_the_answer(self) -> bool:
        return bool(self.question) and not self.is_related


@dataclass(frozen=True)
class ContextBlock:
    """What goes behind the question into the user's turn; empty if no memory is used."""

    text: str = ""
    # Names of the memories used, best first.
    names: tuple[str, ...] = ()
    tokens: int = 0
    # Some memory did not fit the budget.
    is_truncated: bool = False


def assemble(
    memories: Sequence[RecalledMemory], count: Count, budget: int, seed: int | None = None
) -> ContextBlock:
    """As many memories, best first, as fit into `budget` tokens.

    It ends at the first one that does not fit: a lesser memory never stands in for a better one.
    `seed` makes the mark, and so the answer, repeatable.
    """
    mark = _mark(seed)
    told = [memory for memory in memories if memory.text.strip()]
    block = ContextBlock()
    for num in range(1, len(told) + 1):
        text = _render(told[:num], mark)
        tokens = count(text)
        if tokens > budget:
            return ContextBlock(block.text, block.names, block.tokens, is_truncated=True)
        block = ContextBlock(text, (*block.names, told[num - 1].name), tokens)
    return block


def user_turn(question: str, block: ContextBlock) -> str:
    """The user's own words, unchanged, and the block behind them."""
    return f"{question}\n{block.text}" if block.text else question


def as_data(text: str, mark: str) -> str:
    """A text that can neither close its quotes nor the block, nor say anything to a template."""
    line = _DOUBLE_QUOTES.sub("'", on_one_line(neutralise(text)))
    # Caught in any case, since a model reads both alike.
    found = re.compile(re.escape(mark), re.IGNORECASE)
    while found.search(line):
        line = found.sub(lambda same: f"{same[0][0]} {same[0][1:]}", line)
    return line


def _mark(seed: int | None) -> str:
    if seed is None:
        return secrets.token_hex(_MARK_DIGITS // 2)
    return sha256(f"context block {seed}".encode()).hexdigest()[:_MARK_DIGITS]


def _render(memories: Sequence[RecalledMemory], mark: str) -> str:
    best, *others = memories
    # The best one last: a small model takes what stands nearest to its reply.
    lines = "\n".join([_note(memory, mark) for memory in reversed(others)] + [_best(best, mark)])
    instruction = _SAY_THE_ANSWER if best.is_the_answer else _USE_THE_NOTES
    return f"[{mark}]\n{lines}\n[{mark}]\n{instruction}"


def _best(memory: RecalledMemory, mark: str) -> str:
    if not memory.is_the_answer:
        return _note(memory, mark)
    # The question it answers is left out: a small model would repeat it and never reach the answer.
    return f'The answer is "{as_data(memory.text, mark)}".'


def _note(memory: RecalledMemory, mark: str) -> str:
    return f'Keep in mind: "{as_data(f"{memory.question} {memory.text}", mark)}".'
