"""The load of `tests.bench.feedback`: one process, asked by lines of JSON, that calls for a while.

Kinds of turns: `create`, `batch` and `get` call feedback_svc; `bare` publishes messages of the same
size to the same nats-server with plain nats-py. Each runs so many calls at once, each awaited by
itself.
"""

import asyncio
import json
import os
import random
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import nats
from nats.js import api

from selm.api.feedback.v1 import (
    feedback_event_pb2,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
)

BATCH_ITEMS = 64
STREAM, SUBJECT = "BENCH", "bench.bare"
TENANT = (("x-selm-tenant", "bench"),)
_CALL_S = 30.0

Call = Callable[[], Awaitable[None]]


class Load:
    """Connections to both, and the names of what was created."""

    def __init__(self, channel: grpc.aio.Channel, client: Any, generations: list[str]) -> None:
        self._feedback = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
        self._jetstream = client.jetstream(timeout=_CALL_S)
        self._generations = generations
        self._created: list[str] = []
        self._num = 0

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One turn."""
        self._payload = os.urandom(request.get("num_bytes", 0))
        calls: dict[str, Call] = {
            "create": self.create,
            "batch": self.create_many,
            "get": self.get,
            "bare": self.publish,
        }
        return await turn(calls[request["do"]], request["concurrency"], request["seconds"])

    async def create(self) -> None:
        reply = await self._feedback.CreateFeedbackEvent(
            self._request(), metadata=TENANT, timeout=_CALL_S
        )
        self._created.append(reply.feedback_event.name)

    async def create_many(self) -> None:
        items = [self._request() for _ in range(BATCH_ITEMS)]
        request = feedback_service_pb2.BatchCreateFeedbackEventsRequest(requests=items)
        reply = await self._feedback.BatchCreateFeedbackEvents(
            request, metadata=TENANT, timeout=_CALL_S
        )
        if not all(result.HasField("feedback_event") for result in reply.results):
            raise RuntimeError(f"an item of a batch was not recorded: {reply.results}")

    def _request(self) -> Any:
        # Each differs from every other: the same words on the same answer would be a repeat.
        self._num += 1
        rating = feedback_event_pb2.Rating(value=round(random.uniform(0, 5), 6), max_value=5)
        event = feedback_event_pb2.FeedbackEvent(
            generation=self._generations[self._num % len(self._generations)],
            rating=rating,
            labels={"turn": str(self._num)},
        )
        return feedback_service_pb2.CreateFeedbackEventRequest(
            feedback_event=event, request_id=str(uuid.uuid4())
        )

    async def get(self) -> None:
        request = feedback_service_pb2.GetFeedbackEventRequest(name=random.choice(self._created))
        await self._feedback.GetFeedbackEvent(request, metadata=TENANT, timeout=_CALL_S)

    async def publish(self) -> None:
        headers = {"Nats-Msg-Id": uuid.uuid4().hex}
        await self._jetstream.publish(SUBJECT, self._payload, headers=headers)


async def turn(call: Call, concurrency: int, seconds: float) -> dict[str, Any]:
    """Latencies in seconds of all calls begun in that time."""
    latencies: list[float] = []
    started = time.perf_counter()

    async def caller() -> None:
        while (begun := time.perf_counter()) - started < seconds:
            await call()
            latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return {"seconds": time.perf_counter() - started, "latencies_s": latencies}


async def main(target: str, nats_url: str) -> None:
    """Until there is no more request. The first line names the generations to speak of."""
    client = await nats.connect(nats_url)
    config = api.StreamConfig(
        name=STREAM,
        subjects=[SUBJECT],
        storage=api.StorageType.FILE,
        duplicate_window=3600.0,
        discard=api.DiscardPolicy.NEW,
        allow_direct=True,
    )
    await client.jetstream().add_stream(config)
    generations = json.loads(await asyncio.to_thread(sys.stdin.readline))
    async with grpc.aio.insecure_channel(target) as channel:
        load = Load(channel, client, generations)
        while line := await asyncio.to_thread(sys.stdin.readline):
            reply = await load.answer(json.loads(line))
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
