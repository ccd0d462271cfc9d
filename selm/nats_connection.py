"""One NATS connection that never gives up: it connects in the background and reconnects for ever.

Knows nothing of streams. A service starts while the broker is down and is told when it is back.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client
from nats.js.client import JetStreamContext

from selm.bus_errors import bus_unavailable
from selm.log import get_logger
from selm.settings import SharedSettings
from selm.tasks import end_tasks

_log = get_logger("selm.bus")

_RECONNECT_WAIT_S = 0.5
_FIRST_WAIT_S = 0.1
_DRAIN_TIMEOUT_S = 5.0


class NatsConnection:
    """Holds the present client; `epoch` grows with each (re)connection."""

    def __init__(self, settings: SharedSettings, client_name: str) -> None:
        self._settings = settings
        self._client_name = client_name
        self._client: Any = Client()
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._last_error = ""
        self._is_closing = False
        self.epoch = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: SharedSettings, client_name: str
    ) -> AsyncIterator["NatsConnection"]:
        """Start connecting and return at once; drain and close at the end of the block."""
        connection = cls(settings, client_name)
        task = asyncio.create_task(connection._stay_connected(), name="nats-connection")
        try:
            yield connection
        finally:
            # Cancelled first: a client that closes on purpose must not be replaced by a new one.
            connection._is_closing = True
            await end_tasks([task])
            await connection._close()

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set() and bool(self._client.is_connected)

    @property
    def client(self) -> Any:
        """The connected client; SelmError BUS_UNAVAILABLE at once while there is none."""
        if not self.is_connected:
            raise bus_unavailable(f"not connected to {self._settings.nats_url}")
        return self._client

    def jetstream(self, timeout_s: float = 5.0) -> Any:
        """A JetStream context on the connected client; it needs no closing."""
        return JetStreamContext(self.client, timeout=timeout_s)

    async def wait_connected(self) -> None:
        """Wait, for ever if need be, until there is a connection."""
        while not self.is_connected:
            self._connected.clear()
            await self._connected.wait()

    async def _stay_connected(self) -> None:
        while True:
            self._closed.clear()
            try:
                await self._client.connect(**self._options())
                self._note_connected()
                await self._closed.wait()
            except Exception as error:
                # For example a refused password: nats-py closes for good, we ask again later.
                await self._on_error(error)
            self._connected.clear()
            await asyncio.sleep(_RECONNECT_WAIT_S)
            self._client = Client()

    def _options(self) -> dict[str, Any]:
        password = self._settings.nats_password
        return {
            "servers": [url.strip() for url in self._settings.nats_url.split(",")],
            "name": self._client_name,
            "user": self._settings.nats_user,
            "password": password.get_secret_value() if password else None,
            # NOTE: the default of 60 attempts would close the connection for good.
            "max_reconnect_attempts": -1,
            # Between attempts to connect for the first time; after that _next_attempt decides.
            "reconnect_time_wait": _jittered(_RECONNECT_WAIT_S),
            "reconnect_to_server_handler": _next_attempt,
            "connect_timeout": 2,
            # A connection that died without a word is given up after 9 s at the latest.
            "ping_interval": 3,
            "max_outstanding_pings": 2,
            "drain_timeout": _DRAIN_TIMEOUT_S,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
            "closed_cb": self._on_closed,
        }

    def _note_connected(self) -> None:
        self.epoch += 1
        self._last_error = ""
        self._connected.set()
        _log.info("bus_connected", url=self._settings.nats_url, epoch=self.epoch)

    async def _on_reconnected(self) -> None:
        self._note_connected()

    async def _on_disconnected(self) -> None:
        if self._connected.is_set() and not self._is_closing:
            _log.warning("bus_disconnected", url=self._settings.nats_url)
        self._connected.clear()

    async def _on_closed(self) -> None:
        self._connected.clear()
        self._closed.set()

    async def _on_error(self, error: Exception) -> None:
        # One line per kind of trouble, not one per attempt while a broker is down for an hour.
        text = f"{type(error).__name__}: {error}"
        if text != self._last_error:
            _log.warning("bus_error", error=text, url=self._settings.nats_url)
        self._last_error = text

    async def _close(self) -> None:
        try:
            if self.is_connected:
                await asyncio.wait_for(self._client.drain(), _DRAIN_TIMEOUT_S)
        except Exception as error:
            await self._on_error(error)
        finally:
            self._connected.clear()
            # nats-py asserts that a client it closes was once asked to connect.
            if self.epoch or self._client.is_connecting or self._client.is_reconnecting:
                await self._client.close()


def _next_attempt(servers: Sequence[Any], _: object) -> tuple[Any, float]:
    """Which server to try next and after how long, so that clients do not come back all at once."""
    server = random.choice(servers)  # noqa: S311 - no secret
    # A connection that was merely cut is back soon; a broker that is away is asked less often.
    return server, _jittered(_RECONNECT_WAIT_S if server.reconnects else _FIRST_WAIT_S)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
