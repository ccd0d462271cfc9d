"""The command line as a person uses it, on a feedback_svc in a process of its own."""

import asyncio
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from selm.cli import app


@dataclass(frozen=True)
class CommandLine:
    """`await selm("feedback", "ls")`: what it printed. Speaks for the tenant of its client."""

    client: Any
    address: str

    async def __call__(self, *words: str, exit_code: int = 0) -> str:
        """What went to stdout."""
        result = await self.run(*words)
        assert result.exit_code == exit_code, result.output
        return str(result.stdout)

    async def run(self, *words: str, text: str = "") -> Any:
        """All there is to know of a run; `text` is typed into it."""
        runner = CliRunner(env={"SELM_FEEDBACK_TARGET": self.address, "NO_COLOR": "1"})
        arguments = ["--tenant", self.client.tenant, *words]
        return await asyncio.to_thread(runner.invoke, app, arguments, input=text)
