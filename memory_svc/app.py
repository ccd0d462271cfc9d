"""The composition root: opens model, store and bus in order, yields what is served.

Nothing here waits for the store or the bus: memory answers STORE_UNAVAILABLE until Milvus is there,
and searches without the bus, which only brings new corrections.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing

from memory_svc.announcements import Announcements
from memory_svc.applied import AppliedEvents
from memory_svc.core import Embedder
from memory_svc.events import MemoryEvents, acknowledged_floor, last_sequence, utc_now
from memory_svc.memories import Memories
from memory_svc.search import Search
from memory_svc.service import MemoryService
from memory_svc.settings import MemorySettings
from memory_svc.store.connection import StoreOptions
from memory_svc.store.embedder import SentenceEmbedder
from memory_svc.store.milvus import MilvusStore
from selm.api.memory.v1 import memory_service_pb2_grpc
from selm.app import App, Servicer, StartError
from selm.bus import Bus
from selm.checks import CheckResult
from selm.tasks import end_tasks

_FULL_NAME = "selm.api.memory.v1.MemoryService"


@asynccontextmanager
async def build(settings: MemorySettings) -> AsyncIterator[App]:
    """Serves as soon as the embedding model is loaded; is ready when the store answers."""
    # It logs a traceback for each call that fails while a server is away; we log one line.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    with closing(await _load_embedder(settings)) as embedder:
        async with (
            aclosing(MilvusStore(_store_options(settings, embedder))) as store,
            Bus.open(settings.shared, "memory_svc") as bus,
            asyncio.TaskGroup() as tasks,
        ):
            memories = Memories(store, embedder, settings.gate, utc_now)
            applied = AppliedEvents(lambda: acknowledged_floor(bus))
            search = Search(store, embedder, settings.gate)
            announcements = Announcements(bus, utc_now)
            events = MemoryEvents(
                bus, memories, applied, announcements, utc_now, lambda: last_sequence(bus)
            )
            listener = tasks.create_task(_listen(bus, events, applied))
            yield App(
                servicers=(
                    Servicer(
                        _FULL_NAME,
                        memory_service_pb2_grpc.add_MemoryServiceServicer_to_server,
                        MemoryService(
                            memories,
                            search,
                            applied,
                            announcements,
                            settings.consistency_wait_s,
                            utc_now,
                        ),
                    ),
                ),
                checks={
                    "milvus": lambda: _check_store(store),
                    "nats": lambda: _check_bus(bus),
                    "embedder": lambda: _check_embedder(embedder),
                },
                critical=frozenset({"milvus"}),
            )
            await end_tasks([listener])


async def _load_embedder(settings: MemorySettings) -> SentenceEmbedder:
    try:
        return await SentenceEmbedder.load(settings.embedding_model, settings.embedding_num_threads)
    except (OSError, ValueError) as error:
        raise StartError(f"cannot load the embedding model: {error}") from error


def _store_options(settings: MemorySettings, embedder: Embedder) -> StoreOptions:
    token = settings.milvus_token
    return StoreOptions(
        uri=settings.milvus_uri,
        token=token.get_secret_value() if token else "",
        collection=settings.collection,
        consistency_level=settings.consistency_level,
        timeout_s=settings.store_timeout_s,
        flush_num_writes=settings.flush_num_writes,
        dimension=embedder.dimension,
    )


async def _listen(bus: Bus, events: MemoryEvents, applied: AppliedEvents) -> None:
    """Everything that runs beside the calls, once the streams exist."""
    await bus.ready()
    async with asyncio.TaskGroup() as group:
        group.create_task(events.remember())
        group.create_task(events.retire())
        group.create_task(applied.follow())


async def _check_store(store: MilvusStore) -> CheckResult:
    return CheckResult(True, await store.ping())


async def _check_bus(bus: Bus) -> CheckResult:
    if bus.is_connected:
        return CheckResult(True, "connected")
    return CheckResult(False, "NATS does not answer: no new corrections arrive", "BUS_UNAVAILABLE")


async def _check_embedder(embedder: Embedder) -> CheckResult:
    await embedder.embed(["ready"])
    return CheckResult(True, embedder.model)
