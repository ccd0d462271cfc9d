"""A bus on the server of the test, and one on the shared server."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from selm.bus import Bus
from selm.nats_server import NatsServer
from selm.settings import SharedSettings


def settings_for(url: str, data_dir: Path) -> SharedSettings:
    """Settings that name one server and one folder, whatever the environment says."""
    return SharedSettings(nats_url=url, data_dir=data_dir)


@pytest.fixture
async def bus(nats_url: str, tmp_path: Path) -> AsyncIterator[Bus]:
    """A ready bus on the shared server."""
    async with Bus.open(settings_for(nats_url, tmp_path), "test") as opened:
        await opened.ready()
        yield opened


@pytest.fixture
async def own_bus(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Bus]:
    """A ready bus on a server that the test may kill."""
    async with Bus.open(settings_for(nats_server.url, tmp_path), "test") as opened:
        await opened.ready()
        yield opened


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"
