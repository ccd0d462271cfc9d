"""Failpoints and small test helpers, shipped with the product so that tests inject real faults.

A failpoint is a named line in the code. It does nothing unless SELM_FAILPOINTS names it:
`trainer.after_save=exit(137);bus.publish=sleep(2);memory.upsert=3*raise(STORE_UNAVAILABLE)`.
`3*` means "only at the third hit in this process".
"""

import asyncio
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from selm.errors import SelmError

ENVIRONMENT_VARIABLE = "SELM_FAILPOINTS"

T = TypeVar("T")

_ACTION = re.compile(r"(?:(?P<hit>\d+)\*)?(?P<verb>exit|sleep|raise)\((?P<argument>[^()]*)\)")
_hits: Counter[str] = Counter()


@dataclass(frozen=True)
class FailpointAction:
    """What happens at a failpoint; `hit` 0 means at every hit."""

    verb: str
    argument: str
    hit: int = 0


def failpoint(name: str) -> None:
    """Do what SELM_FAILPOINTS says about `name`; nothing when it is unset."""
    text = os.environ.get(ENVIRONMENT_VARIABLE)
    if not text:
        return
    action = parse_failpoints(text).get(name)
    if action is None:
        return
    _hits[name] += 1
    if action.hit in (0, _hits[name]):
        _act(name, action)


@lru_cache(maxsize=8)
def parse_failpoints(text: str) -> dict[str, FailpointAction]:
    """Parse the environment variable; ValueError names the part that is wrong."""
    actions = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, _, spelled = part.partition("=")
        match = _ACTION.fullmatch(spelled.strip())
        if not name or match is None:
            raise ValueError(f"{ENVIRONMENT_VARIABLE}: cannot read {part!r}")
        actions[name.strip()] = FailpointAction(
            match["verb"], match["argument"], int(match["hit"] or 0)
        )
    return actions


def _act(name: str, action: FailpointAction) -> None:
    if action.verb == "exit":
        # NOTE: no clean-up on purpose: this stands for kill -9 at exactly this line.
        os._exit(int(action.argument or 137))
    if action.verb == "sleep":
        time.sleep(float(action.argument))
        return
    if re.fullmatch(r"[A-Z][A-Z0-9_]+", action.argument):
        raise SelmError(action.argument, f"failpoint {name}")
    raise RuntimeError(action.argument or f"failpoint {name}")


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def eventually(
    probe: Callable[[], Awaitable[T]], *, timeout_s: float = 20.0, interval_s: float = 0.05
) -> T:
    """Await `probe` until it returns something true; its last value goes in the TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = await probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {value!r} after {timeout_s} s")
        await asyncio.sleep(interval_s)
