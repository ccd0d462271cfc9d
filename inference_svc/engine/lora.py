"""LoRA inside the model: each row of a batch uses the adapter in its own slot.

A slot is a number; slot 0 means no adapter. Weights of a slot never change once installed, so a new
revision takes a new slot. Knows no names, files or leases.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NO_ADAPTER = 0


@dataclass(frozen=True)
class LoraPair:
    """One module's matrices, laid out for `x @ down @ up`; the scale is already in `up`."""

    # [in_features, rank]
    down: Tensor
    # [rank, out_features]
    up: Tensor

    @property
    def size_bytes(self) -> int:
        return self.down.nbytes + self.up.nbytes


# Module name, e.g. `layers.3.self_attn.q_proj`, to its pair.
LoraWeights = Mapping[str, LoraPair]


@dataclass
class Routing:
    """Which rows of the present batch use which slot; set by the runner before each forward."""

    # Slot and the rows that use it; None stands for all rows. Rows without adapter are in no group.
    groups: Sequence[tuple[int, Tensor | None]] = ()
    device: torch.device | None = None

    def route(self, slots: Sequence[int]) -> None:
        """One group per distinct slot, so each adapter costs one pair of products per module."""
        distinct = sorted(set(slots) - {NO_ADAPTER})
        if len(distinct) == 1 and NO_ADAPTER not in slots:
            self.groups = [(distinct[0], None)]
            return
        self.groups = [(slot, self._rows(slot, slots)) for slot in distinct]

    def _rows(self, slot: int, slots: Sequence[int]) -> Tensor:
        rows = [row for row, other in enumerate(slots) if other == slot]
        return torch.tensor(rows, device=self.device)


class LoraLinear(nn.Module):
    """A frozen linear layer plus the adapters of the rows that have one.

    Rows without adapter get exactly the base layer's output: nothing is added, not even zero.
    """

    def __init__(self, base: nn.Linear, routing: Routing) -> None:
        super().__init__()
        self.base = base
        self._routing = routing
        self._pairs: dict[int, LoraPair] = {}

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """x and result: [batch, tokens, features]."""
        y: Tensor = self.base(x)
        for slot, rows in self._routing.groups:
            pair = self._pairs.get(slot)
            if pair is None:
                continue
            if rows is None:
                y += (x @ pair.down) @ pair.up
            else:
                y.index_add_(0, rows, (x[rows] @ pair.down) @ pair.up)
        return y

    def install(self, slot: int, pair: LoraPair) -> None:
        self._pairs[slot] = pair

    def remove(self, slot: int) -> None:
        self._pairs.pop(slot, None)


class LoraModel:
    """All linear layers of a decoder, made ready for adapters."""

    def __init__(self, decoder: nn.Module) -> None:
        self.routing = Routing(device=next(decoder.parameters()).device)
        self.modules: dict[str, LoraLinear] = dict(self._wrap(decoder))
        self._slots: dict[int, LoraWeights] = {}

    def _wrap(self, decoder: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
        linears = [
            (name, module)
            for name, module in decoder.named_modules()
            if isinstance(module, nn.Linear) and name.startswith("layers.")
        ]
        for name, module in linears:
            parent, _, child = name.rpartition(".")
            wrapped = LoraLinear(module, self.routing)
            setattr(decoder.get_submodule(parent), child, wrapped)
            yield name, wrapped

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Distinct module names, e.g. q_proj, in the order of the first layer."""
        return tuple(dict.fromkeys(name.rsplit(".", 1)[-1] for name in self.modules))

    def install(self, slot: int, weights: LoraWeights) -> None:
        """Puts an adapter into a slot that no running row uses."""
        assert slot != NO_ADAPTER and slot not in self._slots
        for name, pair in weights.items():
            self.modules[name].install(slot, pair)
        self._slots[slot] = weights

    def remove(self, slot: int) -> None:
        for name in self._slots.pop(slot, {}):
            self.modules[name].remove(slot)

    def slots(self) -> Iterable[int]:
        return self._slots.keys()
