"""Checks of what a process depends on: how they run, and what GetServerInfo tells of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from selm import __version__
from selm.api.error.v1 import error_reason_pb2
from selm.api.ops.v1 import server_service_pb2, server_service_pb2_grpc
from selm.errors import SelmError
from selm.settings import SharedSettings

CHECK_TIMEOUT_S = 2.0
FULL_NAME = "selm.api.ops.v1.ServerService"
logger = structlog.get_logger()


@dataclass(frozen=True)
class CheckResult:
    """How one dependency is; reason is an error reason without prefix, set if it did not pass."""

    passed: bool
    detail: str
    reason: str = ""


Check = Callable[[], Awaitable[CheckResult]]


async def run_check(check: Check) -> CheckResult:
    """One check under its own short limit; a check that raises has failed."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return CheckResult(False, f"no answer within {CHECK_TIMEOUT_S:g} s", "PEER_UNAVAILABLE")
    except SelmError as error:
        return CheckResult(False, error.message, error.reason)
    except Exception:
        # Its text may name internals; GetServerInfo is read by callers.
        logger.exception("check_failed")
        return CheckResult(False, "the check itself failed; see the log", "INTERNAL")


async def run_checks(checks: Mapping[str, Check]) -> dict[str, CheckResult]:
    """All checks at once; failing ones first, then by name."""
    names = sorted(checks)
    results = await asyncio.gather(*(run_check(checks[name]) for name in names))
    by_name = dict(zip(names, results, strict=True))
    return dict(sorted(by_name.items(), key=lambda item: item[1].passed))


class ServerInfo(server_service_pb2_grpc.ServerServiceServicer):
    """ServerService: the process about itself."""

    def __init__(self, service: str, settings: SharedSettings, checks: Mapping[str, Check]) -> None:
        self._service = service
        self._settings = settings
        self._checks = checks
        self._start_time = Timestamp()
        self._start_time.GetCurrentTime()

    async def GetServerInfo(self, request: Any, context: Any) -> Any:
        info = server_service_pb2.ServerInfo(
            service=self._service,
            instance=self._settings.instance,
            version=__version__,
            commit=self._settings.commit,
            auth_required=False,
            start_time=self._start_time,
        )
        for name, result in (await run_checks(self._checks)).items():
            info.checks.append(_rendered(name, result))
        info.server_time.GetCurrentTime()
        return server_service_pb2.GetServerInfoResponse(server_info=info)


def _rendered(name: str, result: CheckResult) -> server_service_pb2.DependencyCheck:
    check = server_service_pb2.DependencyCheck(
        check=name, passed=result.passed, detail=result.detail
    )
    if not result.passed:
        reason = f"ERROR_REASON_{result.reason or 'PEER_UNAVAILABLE'}"
        check.reason = error_reason_pb2.ErrorReason.Value(reason)
    return check
