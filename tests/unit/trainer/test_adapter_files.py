"""The artifact of a revision: deterministic packing, identity, distrustful unpacking."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from selm import adapter_files
from selm.adapter_files import AdapterFilesError, AdapterShape, HeldLesson

SHAPE = AdapterShape(16, 32.0, 0.0, ("q_proj", "v_proj"), (3, 4, 5))
LESSONS = [
    HeldLesson("lessons/b", "feedbackEvents/2", "2" * 64, True),
    HeldLesson("lessons/a", "feedbackEvents/1", "1" * 64, False),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter folder with weights of no meaning."""
    made = tmp_path / "adapter"
    made.mkdir()
    (made / adapter_files.WEIGHTS_FILE).write_bytes(b"weights" * 1000)
    adapter_files.write_json_files(made, SHAPE, "models/tiny", LESSONS)
    return made


def archive(path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    """A tar with the given members of one kind."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(content))
    return path


def test_the_same_content_packs_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Wherever and whenever it is packed, in whatever order lessons were given."""
    first = adapter_files.pack(folder, tmp_path / "1.tar").read_bytes()
    (folder / "left-over.log").write_text("not part of it")
    adapter_files.write_json_files(folder, SHAPE, "models/tiny", reversed(LESSONS))
    (folder / adapter_files.WEIGHTS_FILE).touch()

    assert first == adapter_files.pack(folder, tmp_path / "2.tar").read_bytes()


def test_unpacking_gives_back_what_was_packed(folder: Path, tmp_path: Path) -> None:
    """Shape, lessons and identity survive the way through the store."""
    tar = adapter_files.pack(folder, tmp_path / "a.tar")
    out = adapter_files.unpack(tar, tmp_path / "out")

    assert adapter_files.read_config(out) == (SHAPE, "models/tiny")
    assert tuple(h.lesson for h in adapter_files.read_lessons(out)) == ("lessons/a", "lessons/b")
    assert adapter_files.identity(folder) == adapter_files.identity(out)


def test_identity_covers_weights_and_shape_but_not_lessons(folder: Path) -> None:
    """The revision id follows from the two digests."""
    before = adapter_files.identity(folder)
    adapter_files.write_json_files(folder, SHAPE, "models/other", [])
    assert before == adapter_files.identity(folder)
    other = AdapterShape(8, 32.0, 0.0, ("q_proj", "v_proj"), (3, 4, 5))
    adapter_files.write_json_files(folder, other, "models/tiny", LESSONS)
    after = adapter_files.identity(folder)

    assert before.weights_sha256 == after.weights_sha256
    assert before.sha256 != after.sha256
    assert before.revision_id == "r" + before.sha256[:16]


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ([("../evil", b"x")], tarfile.REGTYPE),
        ([("/etc/evil", b"x")], tarfile.REGTYPE),
        ([("pickle.bin", b"x")], tarfile.REGTYPE),
        ([("adapter_config.json", b"{}"), ("adapter_config.json", b"{}")], tarfile.REGTYPE),
        ([("adapter_config.json", b"")], tarfile.SYMTYPE),
        ([("adapter_config.json", b"")], tarfile.LNKTYPE),
        ([("adapter_config.json", b"")], tarfile.DIRTYPE),
        ([("adapter_config.json", b"")], tarfile.FIFOTYPE),
        ([("adapter_config.json", b"{}")], tarfile.REGTYPE),
        ([], tarfile.REGTYPE),
    ],
)
def test_anything_but_the_three_regular_files_is_refused(
    members: list[tuple[str, bytes]], kind: bytes, tmp_path: Path
) -> None:
    """Strange names, links, devices, repeats and missing files never get onto the disk."""
    tar = archive(tmp_path / "bad.tar", *members, kind=kind)

    with pytest.raises(AdapterFilesError):
        adapter_files.unpack(tar, tmp_path / "out")
    assert not (tmp_path / "evil").exists()
    assert not any(path.is_symlink() for path in (tmp_path / "out").glob("*"))


def test_a_cut_off_or_foreign_file_is_refused(folder: Path, tmp_path: Path) -> None:
    """Every length of a broken download ends in the same error, never in half an adapter."""
    whole = adapter_files.pack(folder, tmp_path / "whole.tar").read_bytes()
    for number, length in enumerate((0, 100, 600, 2000, 5000)):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(AdapterFilesError):
            adapter_files.unpack(tmp_path / "cut.tar", tmp_path / f"cut{number}")
    (tmp_path / "noise.tar").write_bytes(b"\x80\x04noise" * 200)

    with pytest.raises(AdapterFilesError):
        adapter_files.unpack(tmp_path / "noise.tar", tmp_path / "noise")


def test_oversized_members_are_refused_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size stands in the header; nothing is read to find out."""
    monkeypatch.setattr(adapter_files, "MAX_JSON_BYTES", 10)
    tar = archive(tmp_path / "big.tar", ("lessons.json", b"x" * 11))

    with pytest.raises(AdapterFilesError, match="over 10 bytes"):
        adapter_files.unpack(tar, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"bias": "all"},
        {"r": 0},
        {"r": "16"},
        {"layers_to_transform": []},
        {"layers_to_transform": [-1]},
        {"target_modules": None},
        {"rank_pattern": {"q_proj": 4}},
    ],
)
def test_configs_outside_the_allow_list_are_refused(
    folder: Path, change: dict[str, object]
) -> None:
    """What serving does not compute must not be asked for."""
    path = folder / adapter_files.CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(AdapterFilesError):
        adapter_files.read_config(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"lessons": [{"lesson": "x"}]}', "{"])
def test_malformed_lessons_are_refused(folder: Path, text: str) -> None:
    """Never an empty list by mistake."""
    (folder / adapter_files.LESSONS_FILE).write_text(text)

    with pytest.raises(AdapterFilesError):
        adapter_files.read_lessons(folder)
