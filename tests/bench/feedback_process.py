"""A process that answers one line of JSON with another."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from selm.processes import dying_with_parent
from tests.bench.memory_peers import PeerError


class LineProcess:
    """Runs from its creation to the end of its `with` block."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log_file: Path
    ) -> None:
        self._log_file = log_file
        with log_file.open("ab") as log:
            self.process = subprocess.Popen(
                dying_with_parent(command),
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> "LineProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait(timeout=10)

    def tell(self, message: object) -> None:
        """Sends a line that has no answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a line and waits for the answer."""
        self.tell(request)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            said = self._log_file.read_text("utf-8", errors="replace")[-1000:]
            raise PeerError(f"ended; its last words: {said}")
        answer: dict[str, Any] = json.loads(line)
        return answer
