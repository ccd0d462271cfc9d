"""feedback_svc as a process of its own, that may be killed."""

import asyncio
import os
import signal
import sys

from selm.testing import free_port


class Child:
    """feedback_svc as a process of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._process: asyncio.subprocess.Process | None = None
        self.port = free_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, failpoints: str = "", memory_target: str = "", **settings: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SELM_")}
        environment |= {
            "SELM_NATS_URL": self._url,
            "SELM_FEEDBACK_PORT": str(self.port),
            "SELM_FEEDBACK_METRICS_PORT": str(free_port()),
            "SELM_FEEDBACK_POLICY_INTERVAL_S": "0.05",
            **({"SELM_FAILPOINTS": failpoints} if failpoints else {}),
            **({"SELM_MEMORY_TARGET": memory_target} if memory_target else {}),
            **{f"SELM_FEEDBACK_{name.upper()}": value for name, value in settings.items()},
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "feedback_svc", env=environment, stdout=asyncio.subprocess.DEVNULL
        )

    async def died(self) -> int:
        """Wait for its end; the exit status."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), 20)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
