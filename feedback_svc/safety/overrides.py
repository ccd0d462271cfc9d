"""Tells a text that instructs the model from one that answers or asks. Pure.

A short list of phrases in nine languages and the control tokens of chat templates. A list is no
defence by itself: it is bypassed by rewording, so memories are also rendered as data. It is made to
be right when it speaks. A phrase that is merely talked about is left alone: in quotation marks, or
as the whole answer, beside a word such as "injection", "phrase" or "token".
"""

import functools
import re
from collections.abc import Iterator, Mapping
from importlib import resources

from selm import words

_FILE = "override_phrases.txt"
_HEADING = "! "
# Tokens that no page of HTML and no plain text has. The milder ones, such as <s> or <user>, say
# nothing about an author; selm.control_tokens spells them apart too when the text is read.
_TOKEN = re.compile(
    r"<[|][^<>\n]{0,40}[|]>|</?\|?(?:im_start|im_end|endoftext|eot_id)\|?>|<</?sys>>|\[/?inst\]"
    r"|</?(?:start|end)_of_turn>|</?tool_(?:call|response)>|</s>\s*<s>"
    r"|(?<!#)#{2,}+\s{0,3}(?:instruction|response|system|assistant|human)s?\s{0,3}:"
)
_TALKS = re.compile(
    r"\b(?:injection|jailbreak\w*|phrase|sentence|token|tokens|template|chatml|delimiter|tag|marker"
    r"|attacks?|attacker|prompts?|example|called|means|translate\w*|words?|says|said"
    r"|satz|ausdruck|angriff|heisst|bedeutet|expression|attaque|signifie|frase|ataque|significa"
    r"|фраза|атака|значит|означает)\b|短语|攻击|意思|攻撃|意味|注入"
)
_QUOTED = re.compile(
    r"\"[^\"\n]{1,200}\"|(?<!\w)'[^'\n]{1,200}'(?!\w)|「[^」\n]{1,200}」|『[^』\n]{1,200}』"
)
_UNSEEN_JOINERS = re.compile("[\u200b-\u200d\u2060\ufeff\u00ad]")


def overrides(text: str, context: str) -> Iterator[str]:
    """What the text orders the model to do; `context` is question and answer together."""
    plain = _plain(text)
    talks = bool(_TALKS.search(_plain(context)) or _TALKS.search(plain))
    judged = _QUOTED.sub(" ", plain) if talks else plain
    for what, pattern in _phrases().items():
        if pattern.search(judged):
            yield what
    if _TOKEN.search(judged) and not (talks and _is_one_token(judged)):
        yield "holds control tokens of a chat template"


def _is_one_token(plain: str) -> bool:
    """Whether a token is all there is, as in the answer to "which token ends a turn?"."""
    return bool(_TOKEN.fullmatch(plain.strip().rstrip(".")))


def _plain(text: str) -> str:
    """One width, case and kind of quotes, single spaces, nothing unseen: what a reader sees."""
    seen = _UNSEEN_JOINERS.sub("", words.spell(text)).casefold()
    return re.sub(r"[^\S\n]+", " ", seen)


@functools.cache
def _phrases() -> Mapping[str, re.Pattern[str]]:
    """One pattern by what its phrases do."""
    text = resources.files("feedback_svc.safety").joinpath(_FILE).read_text(encoding="utf-8")
    groups: dict[str, list[str]] = {}
    what = ""
    for line in text.splitlines():
        if line.startswith(_HEADING):
            what = line.removeprefix(_HEADING)
        elif line and not line.startswith("#"):
            groups.setdefault(what, []).append(f"(?:{line})")
    return {what: re.compile("|".join(patterns)) for what, patterns in groups.items()}
