"""What decides how a training goes: the measured defaults, and reading a job's overrides.

Knows no model and no tensor. The defaults were chosen by measurement on a 135M Llama: they teach a
small round completely while keeping most answers to other questions as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

ALL_LINEAR = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


@dataclass(frozen=True)
class LoraShape:
    """Where the low-rank matrices sit and how large they are."""

    rank: int = 16
    alpha: float = 0.0  # 0: twice the rank
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ALL_LINEAR
    layers: tuple[int, ...] = ()  # empty: the upper half of the model

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}, must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, must be from 0 to below 1")

    def resolve(self, num_layers: int) -> LoraShape:
        """The same shape with every default filled in for a model of that depth."""
        layers = self.layers or tuple(range(num_layers // 2, num_layers))
        if not all(0 <= layer < num_layers for layer in layers):
            raise ValueError(f"layers must be from 0 to {num_layers - 1}, got {list(layers)}")
        return LoraShape(
            rank=self.rank,
            alpha=self.alpha or 2.0 * self.rank,
            dropout=self.dropout,
            target_modules=tuple(sorted(set(self.target_modules) or ALL_LINEAR)),
            layers=tuple(sorted(set(layers))),
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain data with the field names of the contract's LoraConfig."""
        return {
            "rank": self.rank,
            "alpha": self.alpha,
            "dropout": self.dropout,
            "target_modules": list(self.target_modules),
            "layers": list(self.layers),
        }

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Reads LoraConfig fields; 0, empty or absent takes the default."""
        given = _given(cls, values)
        for name in ("target_modules", "layers"):
            if name in given:
                given[name] = tuple(given[name])
        return cls(**given)


@dataclass(frozen=True)
class Recipe:
    """Optimiser, batches and regularisation of one training."""

    lora: LoraShape = field(default_factory=LoraShape)
    learning_rate: float = 0.004
    warmup_steps: int = 3
    final_rate_share: float = 0.05  # where the cosine ends, as a share of learning_rate
    betas: tuple[float, float] = (0.9, 0.98)
    max_gradient_norm: float = 1.0
    max_epochs: int = 12
    min_steps: int = 24  # small rounds get more passes, so that every lesson is seen often enough
    batch_size: int = 8  # corrections a step
    num_replays: int = 6  # replayed answers of the base a step
    variant_share: float = 0.5  # how often a question is shown reworded
    max_sequence_length: int = 1024
    kl_weight: float = 1.0
    num_generic_replays: int = 32
    num_near_replays: int = 48
    num_replay_tokens: int = 12
    stop_after_epoch: int = 8  # early stop is not considered before
    stop_loss: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate <= 0.1:
            raise ValueError(f"learning_rate is {self.learning_rate}, must be above 0 to 0.1")
        for name in ("max_epochs", "batch_size", "max_sequence_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight is {self.kl_weight}, must not be negative")

    def num_epochs(self, steps_per_epoch: int) -> int:
        """Passes planned for a round of that size."""
        return max(self.max_epochs, -(-self.min_steps // steps_per_epoch))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, seed: int = 0) -> Self:
        """Reads a job's config: hyperparameters flat, the adapter's shape under `lora_config`."""
        given = _given(cls, {k: v for k, v in values.items() if k != "lora_config"})
        if values.get("kl_weight") == 0:
            given["kl_weight"] = 0.0  # here 0 is a value: no pull towards the base
        given.setdefault("seed", seed)
        if "betas" in given:
            given["betas"] = tuple(given["betas"])
        return cls(lora=LoraShape.from_mapping(values.get("lora_config") or {}), **given)


def _given(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    known = {item.name for item in fields(cls)} - {"lora"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown training settings: {', '.join(unknown)}")
    return {name: value for name, value in values.items() if value not in (0, None, "", [], ())}
