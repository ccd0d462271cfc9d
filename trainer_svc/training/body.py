"""The base model run in slices: shared opening once, lower layers once, logits where they count.

Training and every arm of the gate go through here, so that answers are compared on the same code
path. Works on decoder-only models laid out like Llama (`model.layers`, `model.norm`, `lm_head`).
Knows nothing of losses or lessons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trainer_svc.training.data import Row

T = TypeVar("T")

# Rows that run through the model together when nothing is trained.
BATCH_ROWS = 32


class KeyValues:
    """Attention keys and values per layer, with the one method that transformers calls."""

    def __init__(self, stored: dict[int, tuple[Tensor, Tensor]] | None = None) -> None:
        self._stored = dict(stored or {})
        self.is_growing = True

    def fork(self, *, is_growing: bool) -> KeyValues:
        """Another continuation of the same past."""
        other = KeyValues(self._stored)
        other.is_growing = is_growing
        return other

    def keep_rows(self, rows: Tensor) -> None:
        """Drops the past of all other rows."""
        for layer, (keys, values) in self._stored.items():
            self._stored[layer] = (keys[rows], values[rows])

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Puts the past of one row, or of every row, before the new keys and values."""
        if past := self._stored.get(layer_idx):
            keys = torch.cat([past[0].expand(len(keys), -1, -1, -1), keys], dim=2)
            values = torch.cat([past[1].expand(len(values), -1, -1, -1), values], dim=2)
        if self.is_growing:
            self._stored[layer_idx] = (keys, values)
        return keys, values


class Body:
    """A causal language model whose layers below `split` never change, whatever adapter is on."""

    def __init__(self, model: Any, prefix: Sequence[int], split: int) -> None:
        self._decoder = model.model
        self._head = model.lm_head
        self.num_layers = len(self._decoder.layers)
        self.split = split
        self.device: torch.device = self._decoder.embed_tokens.weight.device
        self._num_prefix = len(prefix)
        self._cache: dict[tuple[int, ...], Tensor] = {}
        self._lower_past = KeyValues()
        with torch.no_grad():
            embedded = self._embed([tuple(prefix)])
            self._prefix_hidden = self._run(embedded, 0, split, self._lower_past, num_past=0)

    @torch.no_grad()
    def remember(self, rows: Sequence[Row]) -> None:
        """Computes the lower layers of rows once; later passes start above them."""
        missing = sorted({row.inputs for row in rows} - self._cache.keys(), key=len)
        for batch in chunks(missing, BATCH_ROWS):
            past = self._lower_past.fork(is_growing=False)
            hidden = self._run(self._embed(batch), 0, self.split, past, num_past=self._num_prefix)
            for tokens, state in zip(batch, hidden, strict=True):
                self._cache[tokens] = state[: len(tokens)].clone()

    def forget(self) -> None:
        """Frees what `remember` kept."""
        self._cache.clear()

    def answer_logits(self, rows: Sequence[Row]) -> Tensor:
        """Predictions of all answer tokens, row after row: [answer tokens, vocab]."""
        past = KeyValues()
        self._run(self._prefix_hidden, self.split, self.num_layers, past, num_past=0)
        hidden = pad_sequence([self._cache[row.inputs] for row in rows], batch_first=True)
        top = self._run(
            hidden,
            self.split,
            self.num_layers,
            past.fork(is_growing=False),
            num_past=self._num_prefix,
        )
        wanted = [top[i, row.answer_start : len(row.inputs)] for i, row in enumerate(rows)]
        return self._logits(torch.cat(wanted))

    @torch.no_grad()
    def greedy(
        self, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, end_token: int
    ) -> list[tuple[int, ...]]:
        """The likeliest continuation of each prompt, its end token included if it was reached."""
        answers: dict[tuple[int, ...], tuple[int, ...]] = {}
        past = self._lower_past.fork(is_growing=True)
        self._run(self._prefix_hidden, self.split, self.num_layers, past, num_past=0)
        for batch in chunks(sorted(set(prompts), key=lambda p: (len(p), p)), BATCH_ROWS):
            growing = past.fork(is_growing=True)
            for prompt, answer in zip(
                batch, self._decode(batch, growing, max_new_tokens, end_token), strict=True
            ):
                answers[prompt] = answer
        return [answers[prompt] for prompt in prompts]

    def _decode(
        self, batch: list[tuple[int, ...]], past: KeyValues, max_new_tokens: int, end_token: int
    ) -> list[tuple[int, ...]]:
        width = max(len(prompt) for prompt in batch)
        # Padding stands between the shared opening and the prompt, and is never attended to.
        num_pads = torch.tensor([width - len(prompt) for prompt in batch], device=self.device)
        padded = [(0,) * (width - len(prompt)) + prompt for prompt in batch]
        hidden = self._embed(padded)
        answers: list[list[int]] = [[] for _ in batch]
        running = list(range(len(batch)))  # indexes of the rows still in the tensors
        num_past = self._num_prefix
        for _ in range(max_new_tokens):
            top = self._run(hidden, 0, self.num_layers, past, num_past=num_past, num_pads=num_pads)
            num_past += hidden.shape[1]
            logits = self._logits(top[:, -1].contiguous())
            if not torch.isfinite(logits).all():
                raise FloatingPointError("the model's predictions are not finite")
            for index, token in zip(running, logits.argmax(dim=-1).tolist(), strict=True):
                if not answers[index] or answers[index][-1] != end_token:
                    answers[index].append(token)
            unfinished = [i for i, index in enumerate(running) if answers[index][-1] != end_token]
            if not unfinished:
                break
            # Learned answers are short: rows that ended leave once they are half of the batch.
            if len(unfinished) * 2 <= len(running):
                rows = torch.tensor(unfinished, device=self.device)
                past.keep_rows(rows)
                num_pads = num_pads[rows]
                running = [running[i] for i in unfinished]
            hidden = self._embed([(answers[index][-1],) for index in running])
        return [tuple(answer) for answer in answers]

    def _embed(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        tokens = [torch.tensor(row, dtype=torch.long, device=self.device) for row in rows]
        embedded: Tensor = self._decoder.embed_tokens(pad_sequence(tokens, batch_first=True))
        return embedded

    def _run(
        self,
        hidden: Tensor,  # [rows, new tokens, width]
        start: int,
        stop: int,
        past: KeyValues,
        *,
        num_past: int,
        num_pads: Tensor | None = None,
    ) -> Tensor:
        """Layers start to stop over new tokens that follow `num_past` known ones."""
        num_new = hidden.shape[1]
        positions = torch.arange(num_past, num_past + num_new, device=self.device)[None]
        keys = torch.arange(num_past + num_new, device=self.device)
        visible = (keys[None, :] <= positions[0][:, None])[None]  # [1, new, keys]
        if num_pads is not None:
            first_real = self._num_prefix + num_pads[:, None, None]
            padding = (keys >= self._num_prefix) & (keys < first_real)
            visible = visible & ~padding
            positions = (positions - num_pads[:, None]).clamp(min=0)
        mask = torch.zeros(visible.shape, dtype=hidden.dtype, device=self.device)
        # The lowest finite value, not -inf: a padded row that sees nothing must not become NaN.
        mask = mask.masked_fill(~visible, torch.finfo(hidden.dtype).min)[:, None]
        rotary = self._decoder.rotary_emb(hidden, positions)
        for layer in self._decoder.layers[start:stop]:
            output = layer(
                hidden,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=past,
                position_embeddings=rotary,
            )
            hidden = output[0] if isinstance(output, tuple) else output
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        """[tokens, width] -> [tokens, vocab]."""
        # NOTE: contiguous and 2-D: a strided slice makes the frozen head copy its weight per row.
        logits: Tensor = self._head(self._decoder.norm(hidden.contiguous()))
        return logits.float()


def chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """The items in runs of at most `size`."""
    for first in range(0, len(items), size):
        yield list(items[first : first + size])
