"""Decides whether the files of a revision may enter an engine slot, and reads them into matrices.

Everything here comes from outside: sizes, names, digests and numbers are checked before use. Knows
no registry and no slot. A refusal is ADAPTER_REJECTED with its check, or ADAPTER_INCOMPATIBLE.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inference_svc.core import ModelFacts
from inference_svc.engine.lora import LoraLinear, LoraPair, LoraWeights
from inference_svc.revisions import Revision
from selm.adapter_files import (
    WEIGHTS_FILE,
    AdapterFilesError,
    AdapterShape,
    identity,
    lessons_sha256,
    read_config,
    read_lessons,
    unpack,
)
from selm.errors import SelmError

MAX_HEADER_BYTES = 1 << 20
_TENSOR_NAME = re.compile(r"base_model\.model\.model\.(layers\.\d+\.\S+)\.lora_([AB])\.weight")
_DTYPES = {"F32", "F16", "BF16"}


@dataclass(frozen=True)
class VerifiedAdapter:
    """An adapter that may serve."""

    weights: LoraWeights
    lessons: frozenset[str]
    size_bytes: int


@dataclass(frozen=True)
class Verifier:
    """The base model an adapter has to fit."""

    facts: ModelFacts
    modules: Mapping[str, LoraLinear]
    # Largest allowed ratio of what an adapter adds to one matrix and the matrix itself.
    max_relative_norm: float

    def verify(self, archive: Path, revision: Revision, work_dir: Path) -> VerifiedAdapter:
        """Blocks for a second or so; run it outside of the event loop."""
        if revision.base_sha256 != self.facts.sha256:
            raise _incompatible(revision, "base_sha256", self.facts.sha256, revision.base_sha256)
        folder = _checked(revision, "FORMAT", lambda: unpack(archive, work_dir))
        shape, _ = _checked(revision, "CONFIG", lambda: read_config(folder))
        self._check_fit(revision, shape)
        found = identity(folder)
        for field in ("weights_sha256", "config_sha256", "sha256"):
            _check_digest(revision, field, getattr(found, field))
        held = _checked(revision, "FORMAT", lambda: read_lessons(folder))
        lessons = frozenset(item.lesson for item in held)
        _check_digest(revision, "lessons_sha256", lessons_sha256(lessons))
        tensors = _read_tensors(folder / WEIGHTS_FILE, revision, 2 * len(self.modules))
        weights = self._pairs(revision, shape, tensors)
        return VerifiedAdapter(weights, lessons, sum(p.size_bytes for p in weights.values()))

    def _check_fit(self, revision: Revision, shape: AdapterShape) -> None:
        if shape.rank > self.facts.max_lora_rank:
            limit = f"<= {self.facts.max_lora_rank}"
            raise _incompatible(revision, "rank", limit, str(shape.rank))
        known = self.facts.target_modules
        if foreign := sorted(set(shape.target_modules) - set(known)):
            raise _incompatible(revision, "target_modules", ",".join(known), ",".join(foreign))
        if max(shape.layers) >= self.facts.layer_count:
            limit = f"< {self.facts.layer_count}"
            raise _incompatible(revision, "layers", limit, str(max(shape.layers)))

    def _pairs(
        self, revision: Revision, shape: AdapterShape, tensors: Mapping[str, Tensor]
    ) -> LoraWeights:
        """One pair for each module that the config names: none missing, none besides."""
        wanted = {
            name
            for name in self.modules
            if name.rsplit(".", 1)[-1] in shape.target_modules
            and int(name.split(".")[1]) in shape.layers
        }
        halves: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            match = _TENSOR_NAME.fullmatch(key)
            if match is None or match[1] not in wanted:
                raise _rejected(revision, "SHAPE", f"tensor {key[:100]} belongs to no module")
            halves.setdefault(match[1], {})[match[2]] = tensor
        if missing := sorted(name for name in wanted if len(halves.get(name, {})) < 2):
            raise _rejected(revision, "SHAPE", f"no matrices for {missing[0]}")
        pairs = {
            name: self._pair(revision, name, shape, half["A"], half["B"])
            for name, half in halves.items()
        }
        if not any(bool(pair.up.any()) for pair in pairs.values()):
            raise _rejected(revision, "NORM", "the adapter changes nothing")
        return pairs

    def _pair(
        self, revision: Revision, name: str, shape: AdapterShape, down: Tensor, up: Tensor
    ) -> LoraPair:
        """down: [rank, in_features], up: [out_features, rank], as peft stores them."""
        module = self.modules[name]
        expected = ((shape.rank, module.in_features), (module.out_features, shape.rank))
        if (tuple(down.shape), tuple(up.shape)) != expected:
            shapes = f"{tuple(down.shape)} and {tuple(up.shape)}"
            raise _rejected(revision, "SHAPE", f"{name} is {shapes}, expected {expected}")
        down, up = down.float(), up.float() * (shape.alpha / shape.rank)
        if not (down.isfinite().all() and up.isfinite().all()):
            raise _rejected(revision, "FINITE", f"{name} holds a value that is no finite number")
        ratio = _norm_of_product(up, down) / float(module.weight.float().norm())
        if not ratio <= self.max_relative_norm:
            limit = f"{self.max_relative_norm:g}"
            raise _rejected(revision, "NORM", f"{name} adds {ratio:.3g} of its norm, limit {limit}")
        dtype, device = module.weight.dtype, module.weight.device
        return LoraPair(down.T.contiguous().to(device, dtype), up.T.contiguous().to(device, dtype))


def _norm_of_product(up: Tensor, down: Tensor) -> float:
    """Frobenius norm of up @ down by the small rank x rank matrices; never the large product."""
    square = float(((up.T @ up) * (down @ down.T)).sum())
    return math.sqrt(square) if square > 0 else 0.0 if square == 0 or square < 0 else math.inf


def _read_tensors(path: Path, revision: Revision, max_tensors: int) -> dict[str, Tensor]:
    header = _read_header(path, revision)
    if len(header) > max_tensors:
        raise _rejected(revision, "SIZE", f"{len(header)} tensors, at most {max_tensors}")
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.get("dtype") not in _DTYPES:
            raise _rejected(revision, "FORMAT", f"tensor {name[:100]} is of no allowed type")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _rejected(revision, "FORMAT", f"not a safetensors file: {error}") from error


def _read_header(path: Path, revision: Revision) -> Mapping[str, Any]:
    """The JSON before the tensors, read before anything allocates what it claims."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, path.stat().st_size):
            raise _rejected(revision, "FORMAT", "not a safetensors file: no header in bounds")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise _rejected(revision, "FORMAT", "not a safetensors file: no header") from error
    if not isinstance(header, dict):
        raise _rejected(revision, "FORMAT", "not a safetensors file: no header")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _checked(revision: Revision, check: str, work: Any) -> Any:
    try:
        return work()
    except AdapterFilesError as error:
        raise _rejected(revision, check, str(error)) from error


def _check_digest(revision: Revision, field: str, actual: str) -> None:
    if getattr(revision, field) != actual:
        raise _rejected(revision, "DIGEST", f"{field} is {actual}, not as its manifest says")


def _rejected(revision: Revision, check: str, message: str) -> SelmError:
    return SelmError(
        "ADAPTER_REJECTED",
        f"{revision.name}: {message}",
        metadata={"adapter_revision": revision.name, "check": check},
    )


def _incompatible(revision: Revision, field: str, expected: str, actual: str) -> SelmError:
    return SelmError(
        "ADAPTER_INCOMPATIBLE",
        f"{revision.name} does not fit the base model: {field} is {actual}, expected {expected}",
        metadata={
            "adapter_revision": revision.name,
            "field": field,
            "expected": expected,
            "actual": actual,
        },
    )


def check_canary(revision: Revision, logits: torch.Tensor) -> None:
    """The first forward pass through a slot, before anyone is served by it."""
    if not bool(logits.isfinite().all()):
        raise _rejected(revision, "CANARY", "the first forward pass gave no finite numbers")


def digest_mismatch(revision: Revision, error: SelmError) -> SelmError:
    """The fetched bytes are not the ones that the registry names."""
    return _rejected(revision, "DIGEST", error.message)
