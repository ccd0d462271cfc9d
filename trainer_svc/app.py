"""Composition root of trainer_svc: opens everything in order, closes it in reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from selm.api.adapter.v1.adapter_service_pb2_grpc import add_AdapterServiceServicer_to_server
from selm.api.trainer.v1.evaluation_service_pb2_grpc import (
    add_EvaluationServiceServicer_to_server,
)
from selm.api.trainer.v1.trainer_service_pb2_grpc import add_TrainerServiceServicer_to_server
from selm.app import App, Servicer
from selm.artifacts import open_store
from selm.auth import DEFAULT_TENANT
from selm.base_model import BaseModelFolder
from selm.bus import Bus
from selm.checks import CheckResult
from selm.errors import SelmError
from selm.log import get_logger
from selm.tasks import end_tasks
from trainer_svc.adapter_service import AdapterServicer
from trainer_svc.core import DEFAULT_ADAPTER
from trainer_svc.inference import open_inference
from trainer_svc.rooms import Rooms, furnish
from trainer_svc.service import EvaluationServicer, TrainerServicer
from trainer_svc.settings import TrainerSettings
from trainer_svc.training.patience import patiently

_log = get_logger("trainer_svc")


@asynccontextmanager
async def build(settings: TrainerSettings) -> AsyncIterator[App]:
    """Everything a trainer needs, from the bus to the consumers."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus.open(settings.shared, "trainer_svc"))
        target = settings.shared.inference_target
        inference = await stack.enter_async_context(open_inference(target))
        store = open_store(settings.shared, bus)
        rooms = furnish(settings, bus, store, inference)
        loops = (
            rooms.desk.run,
            rooms.acknowledgements.run,
            rooms.erasures.run,
            rooms.cancellations.run,
            partial(_train, rooms),
        )
        await stack.enter_async_context(_running(bus, *loops))
        yield _app(bus, rooms)


def _app(bus: Bus, rooms: Rooms) -> App:
    async def check_bus() -> CheckResult:
        if bus.is_connected:
            return CheckResult(True, "connected")
        return CheckResult(False, "not connected", "BUS_UNAVAILABLE")

    async def check_base_model() -> CheckResult:
        if rooms.base.is_ready:
            return CheckResult(True, "found")
        return CheckResult(False, rooms.base.fault or "being prepared", "STARTING")

    trainer = TrainerServicer(rooms.jobs, rooms.watch, rooms.desk)
    adapters = AdapterServicer(rooms.adapters, rooms.revisions, rooms.desk)
    return App(
        servicers=(
            Servicer(
                "selm.api.trainer.v1.TrainerService", add_TrainerServiceServicer_to_server, trainer
            ),
            Servicer(
                "selm.api.trainer.v1.EvaluationService",
                add_EvaluationServiceServicer_to_server,
                EvaluationServicer(rooms.evaluations),
            ),
            Servicer(
                "selm.api.adapter.v1.AdapterService",
                add_AdapterServiceServicer_to_server,
                adapters,
            ),
        ),
        checks={"nats": check_bus, "base_model": check_base_model},
        # Without the bus nothing can be read; the base model is needed by training alone.
        critical=frozenset({"nats"}),
    )


async def _train(rooms: Rooms) -> None:
    base = await _base_model(rooms)
    await patiently(lambda: rooms.adapters.ensure(DEFAULT_TENANT, DEFAULT_ADAPTER, base.name))
    await rooms.training.run()


async def _base_model(rooms: Rooms) -> BaseModelFolder:
    """The base model. A wrong setting leaves the registry serving and says so in the check."""
    while True:
        try:
            return await rooms.base.get()
        except SelmError as error:
            _log.error("base_model_unusable", error=str(error))
            await asyncio.sleep(30)


@asynccontextmanager
async def _running(bus: Bus, *loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Runs loops beside the block, once the bus is there; a crash of one ends the process."""
    owner = asyncio.current_task()
    assert owner is not None

    async def begin(loop: Callable[[], Awaitable[None]]) -> None:
        await bus.ready()
        await loop()

    def end_owner(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("trainer_work_crashed", exc_info=error)
            # A clean restart by whoever supervises us beats going on with half a trainer.
            owner.cancel()

    tasks = [asyncio.create_task(begin(loop)) for loop in loops]
    for task in tasks:
        task.add_done_callback(end_owner)
    try:
        yield
    finally:
        await end_tasks(tasks)
