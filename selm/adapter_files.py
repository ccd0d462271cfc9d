"""The artifact of an adapter revision: one tar with three files, its digests, and safe unpacking.

trainer_svc packs, inference_svc unpacks and verifies. The same content always gives the same bytes,
so the same identity on every deployment. Knows no torch, no store and no registry.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
LESSONS_FILE = "lessons.json"
MEMBERS = (CONFIG_FILE, WEIGHTS_FILE, LESSONS_FILE)  # in the order they stand in the tar
MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_WEIGHTS_BYTES = 4 * 1024 * 1024 * 1024
_TAR_OVERHEAD_BYTES = 64 * 1024
_COPY_BYTES = 1024 * 1024

# What an adapter_config.json may hold, and the one value of what must not vary.
_FIXED = {
    "bias": "none",
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
}
_VARYING = frozenset(
    (
        "r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "layers_to_transform",
        "base_model_name_or_path",
    )
)


class AdapterFilesError(ValueError):
    """The files are not an adapter this system made or would serve."""


@dataclass(frozen=True)
class AdapterShape:
    """Where the low-rank matrices of an adapter sit; what its config digest covers."""

    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    layers: tuple[int, ...]

    def to_mapping(self) -> dict[str, Any]:
        """Plain data with the field names of the contract's LoraConfig."""
        return asdict(self) | {
            "target_modules": list(self.target_modules),
            "layers": list(self.layers),
        }


@dataclass(frozen=True)
class HeldLesson:
    """One lesson that an adapter was trained on."""

    lesson: str
    feedback_event: str
    example_sha256: str
    replayed: bool


@dataclass(frozen=True)
class Identity:
    """Digests of an adapter; all SHA-256 in lower-case hex."""

    weights_sha256: str
    config_sha256: str
    sha256: str

    @property
    def revision_id(self) -> str:
        """Id of the revision with this content, the same everywhere."""
        return "r" + self.sha256[:16]


def config_mapping(shape: AdapterShape, base_model: str) -> dict[str, Any]:
    """The adapter_config.json of an adapter, readable by peft."""
    return _FIXED | {
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": shape.dropout,
        "target_modules": sorted(shape.target_modules),
        "layers_to_transform": sorted(shape.layers),
        "base_model_name_or_path": base_model,
    }


def read_config(folder: Path) -> tuple[AdapterShape, str]:
    """The shape and the base model's name; refuses anything outside the allow-list."""
    config = _read_json(folder / CONFIG_FILE)
    if unknown := sorted(set(config) - _VARYING - set(_FIXED)):
        raise AdapterFilesError(f"{CONFIG_FILE} has unknown fields: {', '.join(unknown)}")
    for name, value in _FIXED.items():
        if config.get(name, value) != value:
            raise AdapterFilesError(f"{CONFIG_FILE}: {name} must be {value!r}")
    try:
        shape = AdapterShape(
            rank=_integer(config["r"]),
            alpha=float(config["lora_alpha"]),
            dropout=float(config.get("lora_dropout", 0.0)),
            target_modules=tuple(sorted(str(name) for name in config["target_modules"])),
            layers=tuple(sorted(_integer(layer) for layer in config["layers_to_transform"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AdapterFilesError(f"{CONFIG_FILE} is incomplete or malformed: {error}") from error
    if shape.rank < 1 or not shape.layers or not shape.target_modules or min(shape.layers) < 0:
        raise AdapterFilesError(f"{CONFIG_FILE} describes an empty adapter")
    return shape, str(config.get("base_model_name_or_path") or "")


def read_lessons(folder: Path) -> tuple[HeldLesson, ...]:
    """The lessons an adapter holds, sorted by name."""
    document = _read_json(folder / LESSONS_FILE)
    try:
        held = [HeldLesson(**item) for item in document["lessons"]]
        return tuple(sorted(held, key=lambda item: item.lesson))
    except (KeyError, TypeError) as error:
        raise AdapterFilesError(f"{LESSONS_FILE} is malformed: {error}") from error


def write_json_files(
    folder: Path, shape: AdapterShape, base_model: str, lessons: Iterable[HeldLesson]
) -> None:
    """Writes the config and the lessons beside the weights, always with the same bytes."""
    held = sorted(lessons, key=lambda item: item.lesson)
    _write_json(folder / CONFIG_FILE, config_mapping(shape, base_model))
    _write_json(folder / LESSONS_FILE, {"lessons": [asdict(item) for item in held]})


def identity(folder: Path) -> Identity:
    """Digests of the adapter in a folder."""
    shape, _ = read_config(folder)
    return make_identity(file_sha256(folder / WEIGHTS_FILE), config_sha256(shape))


def make_identity(weights_sha256: str, config_digest: str) -> Identity:
    """The identity that follows from the two digests."""
    both = hashlib.sha256((weights_sha256 + config_digest).encode("ascii")).hexdigest()
    return Identity(weights_sha256, config_digest, both)


def config_sha256(shape: AdapterShape) -> str:
    """Digest of the canonical JSON of the shape."""
    canonical = json.dumps(shape.to_mapping(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def lessons_sha256(lessons: Iterable[str]) -> str:
    """Digest of the sorted lesson names."""
    return hashlib.sha256("\n".join(sorted(lessons)).encode()).hexdigest()


def example_sha256(question: str, answer: str) -> str:
    """Digest of what one lesson teaches."""
    return hashlib.sha256(json.dumps([question, answer]).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(folder: Path, target: Path) -> Path:
    """Writes the three files of the folder as one deterministic tar; nothing else goes in."""
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(MEMBERS):
            source = folder / name
            member = tarfile.TarInfo(name)
            member.size = source.stat().st_size
            member.mode = 0o644
            with source.open("rb") as file:
                tar.addfile(member, file)
    return target


def unpack(archive: Path, into: Path) -> Path:
    """Unpacks an artifact from an untrusted place; refuses all but the three files in bounds."""
    if archive.stat().st_size > MAX_WEIGHTS_BYTES + 2 * MAX_JSON_BYTES + _TAR_OVERHEAD_BYTES:
        raise AdapterFilesError("the artifact is too large")
    into.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    try:
        with tarfile.open(archive, "r:") as tar:
            # Read member by member: a hostile archive is refused before its next byte is written.
            while (member := tar.next()) is not None:
                _check_member(member, seen)
                seen.add(member.name)
                source = tar.extractfile(member)
                if source is None:
                    raise AdapterFilesError(f"{member.name} is no regular file")
                _copy(source, into / member.name, member.size)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise AdapterFilesError(f"the artifact is no readable tar: {error}") from error
    if missing := sorted(set(MEMBERS) - seen):
        raise AdapterFilesError(f"the artifact lacks {', '.join(missing)}")
    return into


def _check_member(member: tarfile.TarInfo, seen: set[str]) -> None:
    if member.name not in MEMBERS:
        raise AdapterFilesError(f"the artifact holds a file that does not belong: {member.name!r}")
    if member.name in seen:
        raise AdapterFilesError(f"the artifact holds {member.name} twice")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
        raise AdapterFilesError(f"{member.name} is no regular file")
    limit = MAX_WEIGHTS_BYTES if member.name == WEIGHTS_FILE else MAX_JSON_BYTES
    if member.size > limit:
        raise AdapterFilesError(f"{member.name} is over {limit} bytes")


def _copy(source: io.BufferedIOBase | Any, target: Path, size: int) -> None:
    left = size
    # "x": never follow or overwrite what already lies there.
    with target.open("xb") as file:
        while left > 0:
            chunk = source.read(min(_COPY_BYTES, left))
            if not chunk:
                raise AdapterFilesError(f"{target.name} is cut off")
            file.write(chunk)
            left -= len(chunk)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterFilesError(f"{path.name} is no readable JSON: {error}") from error
    if not isinstance(document, dict):
        raise AdapterFilesError(f"{path.name} is no JSON object")
    return document


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value
