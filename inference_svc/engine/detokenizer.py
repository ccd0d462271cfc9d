"""Tokens to text as they come: only whole characters leave, and stop sequences never do.

Knows the tokenizer's decode function and nothing else of the model.
"""

from collections.abc import Callable, Sequence

# What decoding gives for bytes that are no whole character (yet).
INCOMPLETE = "\ufffd"
NUM_CONTEXT_TOKENS = 6


class Detokenizer:
    """Text of one row. The pieces together are the text of all its tokens at once."""

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int] = ()) -> None:
        """prompt: what comes before; its end decides whether the first token begins a word."""
        self._decode = decode
        self._tokens = list(prompt[-NUM_CONTEXT_TOKENS:])
        # Tokens before _read have left as text; those from _context on are decoded again with the
        # new ones, since how a token reads can depend on the one before it.
        self._context = 0
        self._read = len(self._tokens)

    def add(self, token: int) -> str:
        """Text that this token completes; empty while a character is incomplete."""
        self._tokens.append(token)
        known, text = self._texts()
        if len(text) <= len(known) or text.endswith(INCOMPLETE):
            return ""
        self._context, self._read = self._read, len(self._tokens)
        return text[len(known) :]

    def finish(self) -> str:
        """What is still held back at the end."""
        known, text = self._texts()
        self._context = self._read = len(self._tokens)
        return text[len(known) :]

    def _texts(self) -> tuple[str, str]:
        known = self._decode(self._tokens[self._context : self._read])
        return known, self._decode(self._tokens[self._context :])


class StopScanner:
    """Holds back text that may become a stop sequence, and cuts at the first that does."""

    def __init__(self, stop_sequences: Sequence[str]) -> None:
        self._stops = tuple(stop_sequences)
        self._held = ""
        self.is_stopped = False

    def push(self, text: str) -> str:
        """Text that can leave now."""
        if not self._stops:
            return text
        text = self._held + text
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            self._held = ""
            return text[: min(found)]
        num_held = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - num_held :]
        return text[: len(text) - num_held]

    def finish(self) -> str:
        """Held back text that became no stop sequence."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of text that begins a stop sequence."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
