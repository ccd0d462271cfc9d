"""Every kind of bad adapter file is refused with its reason before it comes near a slot."""

import json
import shutil
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference_svc.core import ModelFacts
from inference_svc.engine.lora import LoraModel
from inference_svc.engine.verify import Verifier
from inference_svc.revisions import Revision
from selm.adapter_files import (
    CONFIG_FILE,
    LESSONS_FILE,
    WEIGHTS_FILE,
    file_sha256,
    identity,
    pack,
    unpack,
)
from selm.base_model import load_model, weights_sha256
from selm.errors import SelmError
from tests.unit.inference.support import MAX_NORM, revision_of

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def verifier(tiny_model: Path) -> Verifier:
    model, _ = load_model(tiny_model)
    lora = LoraModel(model.model)
    facts = ModelFacts(
        name="models/tiny-llama",
        source="tiny-llama",
        sha256=weights_sha256(tiny_model),
        architecture="LlamaForCausalLM",
        dtype="float32",
        device="cpu",
        context_length=2048,
        vocabulary_size=49152,
        layer_count=3,
        target_modules=lora.target_modules,
        max_lora_rank=8,
        adapter_slots=4,
    )
    return Verifier(facts, lora.modules, MAX_NORM)


def tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Change:
    def apply(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS_FILE)
        change(weights)
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / WEIGHTS_FILE)

    return apply


def config(**fields: object) -> Change:
    def apply(folder: Path) -> None:
        known = json.loads((folder / CONFIG_FILE).read_text())
        (folder / CONFIG_FILE).write_text(json.dumps(known | fields))

    return apply


def fill(value: float) -> Change:
    def change(weights: dict[str, torch.Tensor]) -> None:
        for key in weights:
            if "lora_B" in key:
                weights[key] = torch.full_like(weights[key], value)

    return tensors(change)


def spoil_one(value: float) -> Change:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights[sorted(weights)[0]].view(-1)[0] = value

    return tensors(change)


def drop_one(weights: dict[str, torch.Tensor]) -> None:
    del weights[sorted(weights)[0]]


def add_one(weights: dict[str, torch.Tensor]) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    weights[name] = torch.zeros(1, 64)


def to_double(weights: dict[str, torch.Tensor]) -> None:
    key = sorted(weights)[0]
    weights[key] = weights[key].double()


def write_weights(data: bytes) -> Change:
    return lambda folder: (folder / WEIGHTS_FILE).write_bytes(data) and None


def truncate(folder: Path) -> None:
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: len(data) // 2])


BAD_FILES: dict[str, tuple[Change, str, str]] = {
    "pickle": (write_weights(b"\x80\x04\x95" + b"x" * 64), "ADAPTER_REJECTED", "FORMAT"),
    "huge header": (
        write_weights(struct.pack("<Q", 1 << 40) + b"{}"),
        "ADAPTER_REJECTED",
        "FORMAT",
    ),
    "truncated weights": (truncate, "ADAPTER_REJECTED", "FORMAT"),
    "not a number": (spoil_one(float("nan")), "ADAPTER_REJECTED", "FINITE"),
    "infinite": (spoil_one(float("inf")), "ADAPTER_REJECTED", "FINITE"),
    "huge norm": (fill(1e4), "ADAPTER_REJECTED", "NORM"),
    "changes nothing": (fill(0.0), "ADAPTER_REJECTED", "NORM"),
    "missing tensor": (tensors(drop_one), "ADAPTER_REJECTED", "SHAPE"),
    "tensor besides": (tensors(add_one), "ADAPTER_REJECTED", "SHAPE"),
    "double precision": (tensors(to_double), "ADAPTER_REJECTED", "FORMAT"),
    "other rank than said": (config(r=2), "ADAPTER_REJECTED", "SHAPE"),
    "unknown config key": (config(auto_mapping={"x": "y"}), "ADAPTER_REJECTED", "CONFIG"),
    "bias": (config(bias="all"), "ADAPTER_REJECTED", "CONFIG"),
    "rank too high": (config(r=64), "ADAPTER_INCOMPATIBLE", "rank"),
    "unknown module": (config(target_modules=["w_q"]), "ADAPTER_INCOMPATIBLE", "target_modules"),
    "unknown layer": (config(layers_to_transform=[7]), "ADAPTER_INCOMPATIBLE", "layers"),
    "broken lessons": (
        lambda folder: (folder / LESSONS_FILE).write_text("{}") and None,
        "ADAPTER_REJECTED",
        "FORMAT",
    ),
}


def repacked(packed, tmp_path: Path, change: Change) -> tuple[Path, Revision]:
    """The adapter with a change, and a manifest that agrees with the changed files."""
    folder = unpack(packed.archive, tmp_path / "changed")
    change(folder)
    archive = pack(folder, tmp_path / "changed.tar")
    revision = revision_of(replace(packed, archive=archive, archive_sha256=file_sha256(archive)))
    try:
        digests = identity(folder)
    except ValueError:
        return archive, revision
    return archive, replace(
        revision,
        sha256=digests.sha256,
        weights_sha256=digests.weights_sha256,
        config_sha256=digests.config_sha256,
    )


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_with_its_reason(
    verifier: Verifier, pack_adapter, tmp_path: Path, name: str
) -> None:
    """Even when its manifest vouches for it."""
    change, reason, check = BAD_FILES[name]
    archive, revision = repacked(pack_adapter(7), tmp_path, change)
    with pytest.raises(SelmError) as refused:
        verifier.verify(archive, revision, tmp_path / "work")

    error = refused.value
    assert (error.reason, error.metadata.get("check") or error.metadata["field"]) == (reason, check)


@pytest.mark.parametrize(
    "field", ["sha256", "weights_sha256", "config_sha256", "lessons_sha256", "base_sha256"]
)
def test_digest_other_than_in_the_manifest_is_refused(
    verifier: Verifier, pack_adapter, tmp_path: Path, field: str
) -> None:
    """Right files under a wrong manifest do not load, least of all for another base model."""
    packed = pack_adapter(7)
    revision = replace(revision_of(packed), **{field: "0" * 64})
    with pytest.raises(SelmError) as refused:
        verifier.verify(packed.archive, revision, tmp_path / "work")

    expected = "ADAPTER_INCOMPATIBLE" if field == "base_sha256" else "ADAPTER_REJECTED"
    assert refused.value.reason == expected


def test_archive_cut_off_anywhere_is_refused(
    verifier: Verifier, pack_adapter, tmp_path: Path
) -> None:
    """Whatever is left of a truncated artifact, it never loads."""
    packed = pack_adapter(7)
    data = packed.archive.read_bytes()
    with tarfile.open(packed.archive) as tar:
        content_end = max(member.offset_data + member.size for member in tar)
    for end in [*range(0, content_end, 512), content_end - 1]:
        part = tmp_path / "part.tar"
        part.write_bytes(data[:end])
        with pytest.raises(SelmError) as refused:
            verifier.verify(part, revision_of(packed), tmp_path / f"work{end}")
        assert refused.value.reason == "ADAPTER_REJECTED"


@pytest.mark.parametrize("member", ["../evil", "/etc/evil", "model.bin"])
def test_foreign_member_is_refused_and_not_written(
    verifier: Verifier, pack_adapter, tmp_path: Path, member: str
) -> None:
    """An archive with anything besides the three files is refused as a whole."""
    packed = pack_adapter(7)
    shutil.copy(packed.archive, tmp_path / "bad.tar")
    with tarfile.open(tmp_path / "bad.tar", "a") as tar:
        (tmp_path / "payload").write_text("x")
        tar.add(tmp_path / "payload", arcname=member)
    with pytest.raises(SelmError) as refused:
        verifier.verify(tmp_path / "bad.tar", revision_of(packed), tmp_path / "work")

    assert refused.value.reason == "ADAPTER_REJECTED"
    assert not (tmp_path / "evil").exists()


def test_good_file_gives_weights_lessons_and_size(
    verifier: Verifier, pack_adapter, tmp_path: Path
) -> None:
    """Nothing is wrong with a right one."""
    lessons = ("lessons/a", "lessons/b")
    packed = pack_adapter(7, lessons)
    verified = verifier.verify(packed.archive, revision_of(packed), tmp_path / "work")

    assert verified.lessons == set(lessons)
    assert set(verified.weights) == {"layers.2.self_attn.v_proj", "layers.2.self_attn.o_proj"}
    assert verified.size_bytes == 4 * (64 + 32 + 64 + 64)


def test_matrices_add_what_peft_would_add(verifier: Verifier, pack_adapter, tmp_path: Path) -> None:
    """x @ down @ up is scale * B(A(x))."""
    packed = pack_adapter(7)
    folder = unpack(packed.archive, tmp_path / "files")
    config(lora_alpha=1.1)(folder)
    archive = pack(folder, tmp_path / "scaled.tar")
    digests = identity(folder)
    revision = replace(
        revision_of(packed), sha256=digests.sha256, config_sha256=digests.config_sha256
    )
    verified = verifier.verify(archive, revision, tmp_path / "work")
    pair = verified.weights["layers.2.self_attn.v_proj"]
    raw = load_file(folder / WEIGHTS_FILE)
    prefix = "base_model.model.model.layers.2.self_attn.v_proj"
    x = torch.randn(2, 64)
    expected = 1.1 * x @ raw[f"{prefix}.lora_A.weight"].T @ raw[f"{prefix}.lora_B.weight"].T

    torch.testing.assert_close(x @ pair.down @ pair.up, expected)
