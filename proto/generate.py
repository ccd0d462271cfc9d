"""Writes the Python stubs of every contract file into selm/api, replacing what was there.

Knows only protoc's plugins; which files exist is read from proto/selm. Runs offline.
"""

import shutil
import sys
from pathlib import Path

from grpc_tools import protoc

# protoc's own protos (timestamp, duration, field_mask) travel inside grpcio-tools.
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Generates messages, services and their types; returns protoc's exit code."""
    protos = sorted(str(path) for path in (ROOT / "proto" / "selm").rglob("*.proto"))
    shutil.rmtree(ROOT / "selm" / "api", ignore_errors=True)
    plugins = [f"--{name}_out={ROOT}" for name in ("python", "grpc_python", "mypy", "mypy_grpc")]
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{WELL_KNOWN}", *plugins, *protos])
    for folder in sorted({path.parent for path in (ROOT / "selm" / "api").rglob("*.py")}):
        while folder != ROOT / "selm":
            (folder / "__init__.py").touch()
            folder = folder.parent
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
