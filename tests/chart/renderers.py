"""Two ways to render the chart behind one shape: the real helm binary, or Helm's library.

The binary is preferred where there is one; the library comes with the development install.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"
RELEASE = "demo"


class RenderError(Exception):
    """The chart refused its values; the message is what an operator sees."""


class Renderer(Protocol):
    """What the tests need of Helm."""

    def render(self, values: Mapping[str, Any]) -> str:
        """All manifests as one YAML stream; RenderError if the values are refused."""
        ...

    def lint(self) -> str:
        """Empty if the chart lints, else the complaints."""
        ...


class HelmBinary:
    """`helm` as a platform team runs it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def render(self, values: Mapping[str, Any]) -> str:
        with _values_file(values) as file:
            done = self._run("template", RELEASE, str(CHART), "--values", str(file))
        if done.returncode:
            raise RenderError(done.stderr)
        return done.stdout

    def lint(self) -> str:
        done = self._run("lint", "--strict", str(CHART))
        return done.stdout + done.stderr if done.returncode else ""

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._path), *arguments], capture_output=True, text=True, check=False
        )


class HelmLibrary:
    """Helm's own engine through the package helm-python-sdk."""

    def __init__(self) -> None:
        # Only where there is no binary: it loads an 85 MB library.
        import helm_python

        self._helm = helm_python

    def render(self, values: Mapping[str, Any]) -> str:
        try:
            chart = self._helm.Chart.load(str(CHART))
            files = chart.render(dict(values), name=RELEASE, namespace="default")
        except self._helm.HelmError as error:
            raise RenderError(str(error)) from None
        return "\n---\n".join(
            text for path, text in sorted(files.items()) if path.endswith(".yaml")
        )

    def lint(self) -> str:
        # It does not raise: a failed lint only fills these lists.
        result = self._helm.lint(str(CHART), strict=True)
        return "\n".join(map(str, result["errors"]))


def find_renderer() -> Renderer:
    """SELM_HELM, then .tools/helm, then helm on PATH, then the library."""
    named = os.environ.get("SELM_HELM")
    packaged = ROOT / ".tools" / "helm"
    found = named or (str(packaged) if packaged.is_file() else shutil.which("helm"))
    return HelmBinary(Path(found)) if found else HelmLibrary()


def load_manifests(text: str) -> list[dict[str, Any]]:
    """The documents of a rendered chart."""
    return [document for document in yaml.safe_load_all(text) if document]


@contextmanager
def _values_file(values: Mapping[str, Any]) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values)))
        yield file
