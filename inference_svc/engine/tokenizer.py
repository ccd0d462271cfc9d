"""Chat messages to tokens by the base model's own template, and tokens back to text.

Texts are data: control tokens inside them are neutralised before the template sees them.
"""

from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from inference_svc.core import Message, Prompt
from selm.errors import FieldViolation, InvalidFields


class ChatTokenizer:
    """The tokenizer of one base model. Safe to share between threads: it never changes."""

    def __init__(self, tokenizer: Any, end_tokens: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        # NOTE: transformers' tokenizer changes truncation state when it encodes, which two threads
        # must not do; the one below it has no such state.
        self._backend = tokenizer.backend_tokenizer
        self.end_tokens = end_tokens
        added = tokenizer.added_tokens_decoder.values()
        names = {token.content for token in added if token.special}
        names |= set(tokenizer.all_special_tokens)
        # Longest first, so that a token holding another one is broken as a whole.
        self._control_tokens = sorted((n for n in names if len(n) > 1), key=len, reverse=True)

    def prompt(
        self,
        messages: Sequence[Message],
        raw: str,
        lead: str,
        plain: Sequence[Message] | None = None,
    ) -> Prompt:
        """Tokens of a chat, or of raw text as it is. `plain`: the same chat without memories."""
        if not messages:
            return Prompt(tuple(self._encode(raw, is_raw=True)))
        tokens = self._chat(messages) + self._encode(lead)
        added = len(tokens) - len(self._chat(plain)) if plain is not None else 0
        return Prompt(tuple(tokens), lead, max(0, added))

    def count(self, text: str) -> int:
        return len(self._encode(self.neutralise(text)))

    def neutralise(self, text: str) -> str:
        """The text with every control token spelled apart: `<|x|>` reads `< |x|>`."""
        while True:
            before = text
            for name in self._control_tokens:
                text = text.replace(name, f"{name[0]} {name[1:]}")
            if text == before:
                return text

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._backend.decode(list(tokens), skip_special_tokens=True))

    def _chat(self, messages: Sequence[Message]) -> list[int]:
        clean = [{"role": m.role, "content": self.neutralise(m.text)} for m in messages]
        continues = messages[-1].role == "assistant"
        try:
            rendered = self._tokenizer.apply_chat_template(
                clean,
                tokenize=False,
                add_generation_prompt=not continues,
                continue_final_message=continues,
            )
        except TemplateError as error:
            # Some templates want user and assistant to take turns.
            violation = FieldViolation("input.chat.messages", f"the model's template says: {error}")
            raise InvalidFields([violation]) from error
        return self._encode(str(rendered))

    def _encode(self, text: str, is_raw: bool = False) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=is_raw).ids) if text else []


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end the model's turn, as its generation config and tokenizer name them."""
    named = model.generation_config.eos_token_id
    ids = set(named) if isinstance(named, list) else {named}
    return frozenset(int(i) for i in ids | {tokenizer.eos_token_id} if i is not None)
