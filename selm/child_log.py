"""The merged log of the development stack: lines with their child's name, and a file a child."""

from collections import deque
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.text import Text

_NUM_LAST_LINES = 12
_NAME_WIDTH = 9
_STYLES = ("cyan", "green", "magenta", "yellow", "blue", "bright_red")


class ChildLog:
    """Where one child's output goes; `say` is the supervisor speaking about it."""

    def __init__(self, console: Console, name: str, folder: Path, number: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.log"
        self.last_lines: deque[str] = deque(maxlen=_NUM_LAST_LINES)
        self._console = console
        self._name = name
        self._style = _STYLES[number % len(_STYLES)]
        self._file: TextIO = self.path.open("a", encoding="utf-8", buffering=1)

    def line(self, line: str, *, is_shown: bool = True) -> None:
        """One line of the child's output; the file gets it in any case."""
        text = line.rstrip("\r\n")
        self.last_lines.append(text)
        self._file.write(text + "\n")
        if not is_shown:
            return
        # The child may colour its lines: kept for a terminal, dropped elsewhere.
        prefix = Text(f"{self._name:<{_NAME_WIDTH}} | ", style=self._style)
        self._print(prefix + Text.from_ansi(text))

    def say(self, line: str) -> None:
        """One line of ours about the child."""
        self._file.write(f"selm: {line}\n")
        self._print(Text(f"{'selm':<{_NAME_WIDTH}} | {line}", style="bold"))

    def close(self) -> None:
        self._file.close()

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)
