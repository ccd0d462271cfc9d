"""Writes the Python stubs of every contract file into selm/api, or checks that they are current.

Knows only protoc's plugins; which files exist is read from proto/selm. Runs offline.
"""

import filecmp
import os
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
# protoc's own protos (timestamp, duration, field_mask) travel inside grpcio-tools.
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"


def main(arguments: list[str]) -> int:
    """Generates into the repository, or with `--check` compares; returns an exit code."""
    # The plugins of mypy-protobuf stand beside the interpreter, which need not be on PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        if code := generate(fresh):
            return code
        if "--check" in arguments:
            return report(differences(fresh / "selm" / "api", ROOT / "selm" / "api"))
        shutil.rmtree(ROOT / "selm" / "api", ignore_errors=True)
        shutil.copytree(fresh / "selm" / "api", ROOT / "selm" / "api")
    return 0


def generate(into: Path) -> int:
    """Runs protoc over the whole contract; returns its exit code."""
    protos = sorted(str(path) for path in (ROOT / "proto" / "selm").rglob("*.proto"))
    plugins = [f"--{name}_out=quiet:{into}" for name in ("mypy", "mypy_grpc")]
    plugins += [f"--{name}_out={into}" for name in ("python", "grpc_python")]
    code = protoc.main(
        ["protoc", f"-I{ROOT / 'proto'}", f"-I{WELL_KNOWN}", *plugins, *protos],
    )
    for folder in (into / "selm").rglob("*"):
        if folder.is_dir():
            (folder / "__init__.py").touch()
    return int(code)


def differences(fresh: Path, committed: Path) -> list[str]:
    """Names files that are missing, superfluous or of other content."""
    names = {
        str(path.relative_to(top))
        for top in (fresh, committed)
        for path in top.rglob("*.py*")
        if "__pycache__" not in path.parts
    }
    return [name for name in sorted(names) if not same(fresh / name, committed / name)]


def same(one: Path, other: Path) -> bool:
    """True if both files exist with equal bytes."""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def report(stale: list[str]) -> int:
    """Prints what drifted; returns 1 if anything did."""
    for name in stale:
        sys.stderr.write(f"selm/api/{name} is not what proto/ generates: run `make proto`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
