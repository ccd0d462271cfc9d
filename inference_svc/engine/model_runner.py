"""One forward pass: prefill of a single sequence, decode of many. Owns model, device and dtype.

Attention runs row by row over each row's own cache, so a row's numbers do not depend on who shares
the batch; every linear layer runs once for all rows. Knows no scheduling and no sampling.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from inference_svc.engine.kv_cache import CacheShape, RowCache
from inference_svc.engine.lora import NO_ADAPTER, LoraModel
from selm.base_model import BaseModelError

ATTENTION = "selm_rows"
# Models whose blocks, attention and head are Llama's.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


def rows_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    rows: Sequence[RowCache],
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as the decoder layers call it. query: [rows, heads, new, head_size]."""
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    outputs = []
    for index, row in enumerate(rows):
        one = slice(index, index + 1)
        keys, values = row.extend(layer, key[one], value[one])
        outputs.append(_attend(query[one], keys, values, row.length, scaling))
    return torch.cat(outputs).transpose(1, 2), None


def _attend(query: Tensor, keys: Tensor, values: Tensor, start: int, scaling: float) -> Tensor:
    _, num_heads, num_new, head_size = query.shape
    num_groups = num_heads // keys.shape[1]
    if num_new == 1:
        # Query heads that share keys become query positions: no key is copied, nothing is masked.
        packed = query.view(1, keys.shape[1], num_groups, head_size)
        out = scaled_dot_product_attention(packed, keys, values, scale=scaling)
        return out.view(1, num_heads, 1, head_size)
    keys = keys.repeat_interleave(num_groups, dim=1)
    values = values.repeat_interleave(num_groups, dim=1)
    if start == 0:
        return scaled_dot_product_attention(query, keys, values, is_causal=True, scale=scaling)
    # A later chunk sees everything before it and itself up to the diagonal.
    mask = torch.ones(num_new, keys.shape[2], dtype=torch.bool, device=query.device)
    mask = mask.tril(diagonal=start)
    return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scaling)


class ModelRunner:
    """The base model with its adapters, ready to run. Used by the engine thread alone."""

    def __init__(self, model: Any) -> None:
        config = model.config
        if config.model_type not in MODEL_TYPES:
            known = ", ".join(MODEL_TYPES)
            raise BaseModelError(f"model type {config.model_type} is none of {known}")
        AttentionInterface.register(ATTENTION, rows_attention)
        config._attn_implementation = ATTENTION
        self._decoder = model.model
        self._head = model.lm_head
        self._device = model.device
        self.lora = LoraModel(self._decoder)
        self.vocabulary_size = int(config.vocab_size)
        self.cache_shape = CacheShape(
            num_layers=config.num_hidden_layers,
            num_heads=config.num_key_value_heads,
            head_size=getattr(config, "head_dim", None)
            or config.hidden_size // config.num_attention_heads,
            dtype=model.dtype,
            device=model.device,
        )

    def prefill(self, tokens: Sequence[int], cache: RowCache, slot: int) -> Tensor:
        """Runs a chunk of one prompt; logits [vocabulary] after its last token."""
        positions = range(cache.length, cache.length + len(tokens))
        return self._forward([list(tokens)], [list(positions)], [cache], [slot])[0]

    def decode(
        self, tokens: Sequence[int], caches: Sequence[RowCache], slots: Sequence[int]
    ) -> Tensor:
        """Continues every row by its newest token; logits [rows, vocabulary]."""
        positions = [[cache.length] for cache in caches]
        return self._forward([[token] for token in tokens], positions, caches, slots)

    @torch.inference_mode()
    def _forward(
        self,
        tokens: list[list[int]],
        positions: list[list[int]],
        caches: Sequence[RowCache],
        slots: Sequence[int],
    ) -> Tensor:
        self.lora.routing.route(slots)
        output = self._decoder(
            input_ids=torch.tensor(tokens, device=self._device),
            position_ids=torch.tensor(positions, device=self._device),
            use_cache=False,
            rows=caches,
        )
        for cache in caches:
            cache.advance(len(tokens[0]))
        # NOTE: contiguous, else the head copies its weight once per row.
        last = output.last_hidden_state[:, -1].contiguous()
        logits: Tensor = self._head(last)
        # Rows are sampled one by one, with tables that live beside the CPU.
        return logits.float().cpu()

    def probe(self, tokens: Sequence[int], slot: int = NO_ADAPTER) -> Tensor:
        """Logits after a short prompt with a throw-away cache: is this slot sane?"""
        return self.prefill(tokens, RowCache(self.cache_shape, len(tokens)), slot)
