"""Engines of the tiny model: real threads, real torch, no network."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from inference_svc.engine.engine import AsyncEngine
from inference_svc.engine.loader import EngineSource, load_engine
from inference_svc.engine.room import EngineLimits
from tests.model_fixtures import PackedAdapter, pack_constant_adapter

StartEngine = Callable[..., AbstractAsyncContextManager[AsyncEngine]]
PackAdapter = Callable[..., PackedAdapter]


@pytest.fixture
def start_engine(tiny_model: Path, tmp_path: Path) -> StartEngine:
    """Starts an engine with the given limits, stops it at the end of its block."""

    @asynccontextmanager
    async def start(
        limits: EngineLimits | None = None, folder: Path = tiny_model, adapter_slots: int = 4
    ) -> AsyncIterator[AsyncEngine]:
        source = EngineSource(str(folder), tmp_path, adapter_slots=adapter_slots)
        engine = load_engine(source, limits or EngineLimits(num_threads=1))
        engine.start()
        try:
            yield engine
        finally:
            await engine.stop()

    return start


@pytest.fixture
def pack_adapter(tiny_model: Path, tmp_path: Path) -> PackAdapter:
    """Makes an adapter with which the tiny model says one token for ever."""

    def make(token: int, lessons: tuple[str, ...] = ("lessons/one",)) -> PackedAdapter:
        return pack_constant_adapter(tiny_model, token, tmp_path / "packed", lessons)

    return make
