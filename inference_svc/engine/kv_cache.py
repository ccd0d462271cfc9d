"""Keys and values of running sequences. Owns their memory; knows no scheduling and no model.

Each sequence has its own tensors, reserved whole at admission: no padding is ever computed, and a
running sequence can never find the cache full.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CacheShape:
    """What one token takes: keys and values in every layer."""

    num_layers: int
    num_heads: int
    head_size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        return 2 * self.num_layers * self.num_heads * self.head_size * self.dtype.itemsize


class RowCache:
    """Keys and values of one sequence. `length` tokens are valid in every layer."""

    def __init__(self, shape: CacheShape, capacity: int) -> None:
        size = (shape.num_layers, 1, shape.num_heads, capacity, shape.head_size)
        self._keys = torch.empty(size, dtype=shape.dtype, device=shape.device)
        self._values = torch.empty(size, dtype=shape.dtype, device=shape.device)
        self.length = 0
        self.capacity = capacity

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores new keys and values ([1, heads, new, head_size]); returns all up to the newest.

        NOTE: `length` moves only once all layers are written, see advance.
        """
        end = self.length + keys.shape[2]
        self._keys[layer, :, :, self.length : end] = keys
        self._values[layer, :, :, self.length : end] = values
        return self._keys[layer, :, :, :end], self._values[layer, :, :, :end]

    def advance(self, num_tokens: int) -> None:
        """The last forward wrote this many tokens in all layers."""
        self.length += num_tokens


class CacheBudget:
    """Bytes that all running sequences together may reserve."""

    def __init__(self, shape: CacheShape, budget_bytes: int) -> None:
        self._shape = shape
        self.num_tokens_total = budget_bytes // shape.token_bytes
        self.num_tokens_reserved = 0

    def fits_alone(self, num_tokens: int) -> bool:
        return num_tokens <= self.num_tokens_total

    def has_room(self, num_tokens: int) -> bool:
        """Whether it fits beside what is reserved now."""
        return self.num_tokens_reserved + num_tokens <= self.num_tokens_total

    def allocate(self, num_tokens: int) -> RowCache:
        """A cache of that length; ask has_room first."""
        # Counted last: where the memory itself runs out, nothing must stay reserved.
        cache = RowCache(self._shape, num_tokens)
        self.num_tokens_reserved += num_tokens
        return cache

    def free(self, cache: RowCache) -> None:
        self.num_tokens_reserved -= cache.capacity
