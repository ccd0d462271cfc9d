"""A trainer process with scripted children, to be killed: `... nats_url data_dir base_model`."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from selm.artifacts import open_store
from selm.bus import Bus
from selm.settings import SharedSettings
from tests.integration.trainer.conftest import SCRIPTED, ServingStandIn
from trainer_svc.rooms import furnish
from trainer_svc.settings import TrainerSettings
from trainer_svc.training.runner import TrainingProcess

# So that the request of a killed worker is soon another's.
ACK_WAIT_S = 1.5


async def main(nats_url: str, data_dir: str, base_model: str) -> None:
    artifacts = (Path(data_dir).parent / "artifacts").as_uri()
    shared = SharedSettings(
        nats_url=nats_url, data_dir=Path(data_dir), artifacts_uri=artifacts, instance="worker"
    )
    settings = TrainerSettings(base_model=base_model, shared=shared)
    async with Bus.open(shared, "worker") as bus:
        await bus.ready()
        store = open_store(shared, bus)
        rooms = furnish(settings, bus, store, ServingStandIn(), TrainingProcess(SCRIPTED))
        print("ready", flush=True)
        await replace(rooms.training, ack_wait_s=ACK_WAIT_S).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
