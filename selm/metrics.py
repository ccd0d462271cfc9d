"""The metrics of all services, under their house names, and the port that serves them.

Tenant, user and adapter ids are never labels: their number has no bound.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from time import monotonic
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import Counter, Gauge, Histogram, make_wsgi_app

DURATION_BUCKETS = tuple(0.01 * 2**power for power in range(14))
TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
LAG_INTERVAL_S = 0.5
SHUTDOWN_POLL_S = 0.05

BUILD_INFO = Gauge("selm_build_info", "Always 1; what runs here.", ["service", "version", "commit"])
EVENT_LOOP_LAG = Gauge("selm_event_loop_lag_seconds", "How late the event loop ran a timer.")
RPC_SECONDS = Histogram(
    "selm_rpc_seconds",
    "RPCs by how long they took; streams until their end.",
    ["service", "method", "code"],
    buckets=DURATION_BUCKETS,
)
CONSUMER_STALLED = Counter(
    "selm_nats_consumer_stalled_total",
    "Times that messages waited and none was delivered, so that a reader bound again.",
    ["stream"],
)
BATCH_MESSAGES = Histogram(
    "selm_nats_batch_messages",
    "Messages that one publish stored together.",
    ["stream"],
    buckets=tuple(float(2**power) for power in range(11)),
)
RPC_IN_FLIGHT = Gauge("selm_rpc_in_flight", "RPCs running now, streams included.", ["service"])


class _Server(ThreadingMixIn, WSGIServer):
    # A scraper that hangs must not hold up the end of the process.
    daemon_threads = True


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are no events."""


@contextmanager
def serve_metrics(port: int, host: str = "127.0.0.1") -> Iterator[int]:
    """Serves /metrics from its own thread while the block runs; yields the port, raises OSError."""
    is_v6 = ":" in host
    server = make_server(
        host.strip("[]"), port, make_wsgi_app(), _ServerV6 if is_v6 else _Server, _QuietHandler
    )
    thread = Thread(target=server.serve_forever, args=(SHUTDOWN_POLL_S,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def watch_event_loop() -> None:
    """Measures until cancelled how late timers fire: blocking work in a handler shows here."""
    while True:
        before = monotonic()
        await asyncio.sleep(LAG_INTERVAL_S)
        EVENT_LOOP_LAG.set(max(0.0, monotonic() - before - LAG_INTERVAL_S))
