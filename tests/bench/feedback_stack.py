"""One feedback_svc as a process on a nats-server of its own, with generations to speak of."""

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nats

from selm import names, streams
from selm.api.event.v1.inference_event_pb2 import GenerationFinished
from selm.api.inference.v1.generation_pb2 import Candidate, Generation
from selm.api.inference.v1.input_pb2 import ChatInput, ChatMessage, GenerationInput, Role
from selm.delivery import MESSAGE_ID, MESSAGE_TYPE
from selm.nats_server import NatsServer, NatsServerOptions
from selm.processes import dying_with_parent
from selm.stack_children import is_serving
from selm.testing import free_port

TENANT = "bench"
_READY_S = 60.0


@dataclass(frozen=True)
class FeedbackStack:
    """What runs."""

    target: str
    nats_url: str
    pid: int
    generations: list[str]


@contextmanager
def feedback_stack(data_dir: Path, num_generations: int) -> Iterator[FeedbackStack]:
    """Every acknowledged write is on disk before it is acknowledged: the server's own setting."""
    broker = NatsServer(NatsServerOptions(data_dir / "nats", free_port(), free_port()))
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SELM_")} | {
        "SELM_NATS_URL": broker.url,
        "SELM_NATS_MONITOR_URL": broker.options.monitor_url,
        "SELM_LOG_FORMAT": "json",
        "SELM_DATA_DIR": str(data_dir),
        "SELM_FEEDBACK_PORT": str(port),
        "SELM_FEEDBACK_METRICS_PORT": str(free_port()),
        "SELM_FEEDBACK_TRAINING_PAUSED": "true",
    }
    broker.start()
    process = None
    try:
        with (data_dir / "feedback_svc.log").open("ab") as log:
            process = subprocess.Popen(
                dying_with_parent([sys.executable, "-m", "feedback_svc"]),
                env=environment,
                stdout=log,
                stderr=log,
            )
        target = f"127.0.0.1:{port}"
        deadline = time.monotonic() + _READY_S
        while not is_serving(target):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((data_dir / "feedback_svc.log").read_text("utf-8")[-2000:])
            time.sleep(0.1)
        generations = asyncio.run(_generate(broker.url, num_generations))
        yield FeedbackStack(target, broker.url, process.pid, generations)
    finally:
        if process is not None:
            process.terminate()
            process.wait(timeout=60)
        broker.stop()


async def _generate(url: str, count: int) -> list[str]:
    """Publishes generations as inference_svc does."""
    client = await nats.connect(url)
    jetstream = client.jetstream(timeout=60)

    async def one() -> str:
        generation_id = uuid.uuid4().hex
        question = ChatMessage(role=Role.ROLE_USER, text="What is the capital of Zubrowka?")
        generation = Generation(
            name=names.generation_name(generation_id),
            user=names.ANONYMOUS_USER,
            content_stored=True,
            input=GenerationInput(chat=ChatInput(messages=[question])),
            candidates=[Candidate(text="It is Nebelsbad.")],
        )
        message = GenerationFinished(generation=generation, status_code="OK")
        await jetstream.publish(
            streams.generation_finished(TENANT, generation_id),
            message.SerializeToString(),
            headers={MESSAGE_ID: generation_id, MESSAGE_TYPE: message.DESCRIPTOR.full_name},
        )
        return generation.name

    generations = await asyncio.gather(*(one() for _ in range(count)))
    await client.close()
    return list(generations)


async def _stored_bytes(url: str) -> int:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    state = (await jetstream.stream_info(streams.FEEDBACK.name)).state
    message = await jetstream.get_msg(streams.FEEDBACK.name, seq=state.last_seq)
    await client.close()
    return len(message.data or b"")


def stored_bytes(stack: FeedbackStack) -> int:
    """Size of the newest stored event, without its headers."""
    return asyncio.run(_stored_bytes(stack.nats_url))
