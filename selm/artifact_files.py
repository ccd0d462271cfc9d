"""Files that are either complete and on disk or not there at all: digest, durable copy, rename."""

import hashlib
import os
import shutil
import uuid
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def partial_path(target: Path) -> Path:
    """A name beside `target`, so that the later rename stays on one file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent / f".{target.name}.{uuid.uuid4().hex}.partial"


def copy_durably(source: Path, target: Path) -> None:
    """Copy so that `target` never exists half-written, even across a power loss."""
    partial = partial_path(target)
    try:
        shutil.copyfile(source, partial)
        publish_file(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def publish_file(partial: Path, target: Path) -> None:
    """Sync the bytes, rename, and sync the folder that now holds the name."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
