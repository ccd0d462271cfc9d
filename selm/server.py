"""The life of a service process: bind, build, serve, drain. Knows no service.

1 The port is bound first, so that a taken one costs no model load. 2 Health and reflection answer:
NOT_SERVING. 3 `build` opens everything the service needs. 4 Its services answer: SERVING.
5 A signal: NOT_SERVING, a delay for load balancers, watchers end, running calls get their grace.
6 The block of `build` closes what it opened, in reverse order.
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TypeVar

import structlog
from google.protobuf.internal import api_implementation

from selm import pages
from selm.app import App, Servicer, StartError
from selm.checks import Check, CheckResult
from selm.errors import SelmError
from selm.listener import Listener
from selm.log import configure_logging
from selm.settings import ServiceSettings, SettingsError, check_environment, load_settings

__all__ = ["App", "Check", "CheckResult", "Servicer", "StartError", "run", "serve"]

logger = structlog.get_logger()

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
Build = Callable[[SettingsT], AbstractAsyncContextManager[App]]


def run(service_name: str, settings: SettingsT | type[SettingsT], build: Build[SettingsT]) -> None:
    """The whole process of a service; a fault an operator can mend is one line and code 1."""
    try:
        loaded = load_settings(settings) if isinstance(settings, type) else settings
        check_environment(type(loaded))
        configure_logging(service_name, loaded.shared)
        asyncio.run(_serve_until_signal(service_name, loaded, build))
    except (SettingsError, StartError, SelmError) as error:
        print(f"{service_name}: {error}", file=sys.stderr)  # noqa: T201 - before or without a log
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        logger.exception("failed")
        sys.exit(1)


async def _serve_until_signal(
    service_name: str, settings: SettingsT, build: Build[SettingsT]
) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(number: int) -> None:
        stop.set()
        # A second signal has its default meaning: end at once.
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await serve(service_name, settings, build, stop=stop)


async def serve(
    service_name: str,
    settings: SettingsT,
    build: Build[SettingsT],
    *,
    ready: asyncio.Event | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serves until `stop` is set or the task is cancelled; sets `ready` when services answer."""
    stop = stop or asyncio.Event()
    _refuse_unsafe(settings)
    pages.configure(settings.shared.page_key.get_secret_value())
    server = Listener(service_name, settings)
    async with server.listening(), AsyncExitStack() as stack:
        app = await _build_unless_stopped(stack, build(settings), stop)
        if app is None:
            return
        async with server.serving(app):
            if ready is not None:
                ready.set()
            await stop.wait()


async def _build_unless_stopped(
    stack: AsyncExitStack, opening: AbstractAsyncContextManager[App], stop: asyncio.Event
) -> App | None:
    """Opens the app in this task, since its task groups belong to it; a stop gives up waiting."""
    task = asyncio.current_task()
    assert task is not None

    async def give_up() -> None:
        await stop.wait()
        task.cancel()

    watcher = asyncio.create_task(give_up())
    try:
        return await stack.enter_async_context(opening)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        task.uncancel()
        return None
    finally:
        watcher.cancel()


def _refuse_unsafe(settings: ServiceSettings) -> None:
    if not settings.is_loopback and not settings.shared.allow_insecure:
        raise SettingsError(
            f"refusing to listen on {settings.host}: authentication is off; "
            "set SELM_ALLOW_INSECURE=true if only trusted callers can reach this address"
        )
    if api_implementation.Type() != "upb":
        raise StartError("protobuf runs without its upb backend, which bounds nesting")
