"""Whether the broker syncs every acknowledged write to disk, as its monitor tells.

By default it acknowledges first and syncs every two minutes: a power failure then takes messages
that were acknowledged. NATS itself does not say which; only the monitor's HTTP port does.
"""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

from selm.checks import Check, CheckResult
from selm.log import get_logger

_log = get_logger("selm.bus")

_TIMEOUT_S = 1.5
_NAME = "nats_sync"


def sync_checks(monitor_url: str | None, *, is_required: bool) -> dict[str, Check]:
    """The check by its name; none where nobody can tell and nobody insists."""
    if monitor_url is None and not is_required:
        return {}
    return {_NAME: lambda: check_sync(monitor_url)}


def critical_sync_checks(*, is_required: bool) -> frozenset[str]:
    """Which of `sync_checks` must pass before the service serves."""
    return frozenset({_NAME}) if is_required else frozenset()


async def check_sync(monitor_url: str | None) -> CheckResult:
    """Passes only if the broker says that it syncs always."""
    if not monitor_url:
        return CheckResult(False, "SELM_NATS_MONITOR_URL is not set", "STORE_UNAVAILABLE")
    try:
        report = await asyncio.to_thread(_ask, f"{monitor_url.rstrip('/')}/jsz?config=1")
    except (urllib.error.URLError, OSError, ValueError) as error:
        text = f"the monitor of NATS does not answer: {type(error).__name__}"
        return CheckResult(False, text, "PEER_UNAVAILABLE")
    config = report.get("config") if isinstance(report, dict) else None
    if isinstance(config, dict) and config.get("sync_always") is True:
        return CheckResult(True, "every acknowledged write is on disk")
    text = "NATS acknowledges before it syncs; set sync_interval: always"
    return CheckResult(False, text, "STORE_UNAVAILABLE")


async def warn_unless_synced(monitor_url: str | None) -> None:
    """One WARNING if it is known that acknowledged messages could be lost, or cannot be learned."""
    if monitor_url is None:
        return
    result = await check_sync(monitor_url)
    if not result.passed:
        _log.warning("bus_not_durable", monitor_url=monitor_url, detail=result.detail)


def _ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as reply:  # noqa: S310
        return json.load(reply)
