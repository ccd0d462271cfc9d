"""Control tokens of chat templates, taken out of texts that others wrote.

A template gives some spellings a meaning: a turn ends, a system message starts. In a text that is
data they are spelled apart, so that people still read them and no tokenizer does. Knows the
spellings of common models; what one model adds to them its own tokenizer takes care of.
"""

import re
from collections.abc import Callable

# Names in angle brackets that templates use and that plain writing and HTML hardly ever do.
_TAGS = "|".join(
    (
        "s",
        "bos",
        "eos",
        "pad",
        "unk",
        "mask",
        "cls",
        "sep",
        "think",
        "system",
        "user",
        "assistant",
        "human",
        "tool",
        "tools",
        "filename",
        # start_of_turn, tool_call, repo_name, extra_id_0, reserved_special_token_1, ...
        r"[a-z]\w*_\w*",
        r"unused\d+",
    )
)
_BRACKETS = "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|IMG|PREFIX"
_HEADINGS = "instruction|response|input|output|system|user|assistant|human"

# Each with what takes its place; none of these can bring about another one.
_SPELLINGS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    # <|im_start|>, <|eot_id|> and whatever else stands between such brackets; the wide ones too.
    (re.compile(r"[<＜](?=[|｜])|[|｜](?=[>＞])"), lambda found: f"{found[0]} "),
    # <<SYS>>, <</SYS>>
    (re.compile(r"<(?=</?SYS>)|(?<=SYS)>(?=>)", re.IGNORECASE), lambda found: f"{found[0]} "),
    (re.compile(rf"<(?=/?(?:{_TAGS})\s*/?>)", re.IGNORECASE), lambda found: "< "),
    (re.compile(rf"\[(?=/?(?:{_BRACKETS})\])", re.IGNORECASE), lambda found: "[ "),
    # ### Instruction:
    (
        # Possessive, and never begun in the middle: a long row of signs is read once.
        re.compile(rf"(?<!#)#{{2,}}+(?=\s*(?:{_HEADINGS}))", re.IGNORECASE),
        lambda found: " ".join(found[0]),
    ),
)
# Control characters, and signs that nobody sees: zero width, direction overrides, tag letters.
# Joiners inside words (U+200C, U+200D) are part of the spelling of some languages and stay.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def neutralise(text: str) -> str:
    """The text with every control token spelled apart: `<|x|>` reads `< |x| >`."""
    # First, or a sign between two characters would hide a token that comes together later.
    text = _UNSEEN.sub("", text)
    for spelling, apart in _SPELLINGS:
        text = spelling.sub(apart, text)
    return text


def on_one_line(text: str) -> str:
    """The text with line breaks of every kind, tabs and runs of spaces as single spaces."""
    return " ".join(text.split())
