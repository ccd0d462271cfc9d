"""Calls of LearningService as a test spells them, over the client of conftest."""

from typing import Any

from selm import names
from selm.api.event.v1.feedback_event_pb2 import TrainingRequested
from selm.api.feedback.v1 import learning_pb2, learning_service_pb2
from selm.errors import SelmError
from selm.testing import eventually

POLICY = "adapters/default/trainingPolicy"


async def call(client: Any, method: str, **fields: Any) -> Any:
    request = getattr(learning_service_pb2, f"{method}Request")(**fields)
    return await getattr(client.learning, method)(request, metadata=client.metadata, timeout=15)


async def policy(client: Any, adapter: str = names.DEFAULT_ADAPTER) -> Any:
    reply = await call(client, "GetTrainingPolicy", name=f"{adapter}/trainingPolicy")
    return reply.training_policy


async def set_policy(
    client: Any,
    adapter: str = names.DEFAULT_ADAPTER,
    request_id: str = "",
    mask: Any = (),
    **fields: Any,
) -> Any:
    wanted = learning_pb2.TrainingPolicy(name=f"{adapter}/trainingPolicy", **fields)
    request = learning_service_pb2.UpdateTrainingPolicyRequest(
        training_policy=wanted, request_id=request_id
    )
    request.update_mask.paths.extend(mask)
    reply = await client.learning.UpdateTrainingPolicy(
        request, metadata=client.metadata, timeout=15
    )
    return reply.training_policy


async def teach(
    client: Any, peers: Any, number: int, adapter: str = "", *, remember: bool = True
) -> Any:
    """A lesson; by default memory has taken it in."""
    generation = await peers.generate(question=f"What is the number of house {number}?")
    event = (await client.correct(generation, f"It is {number}", adapter=adapter)).feedback_event
    lesson = await client.lesson(event.lesson)
    if remember:
        await peers.remember(lesson)
    return lesson


async def is_lesson(client: Any, lesson: Any, state: int) -> bool:
    return bool((await client.lesson(lesson.name)).state == state)


async def until(client: Any, lessons: list[Any], state: int) -> None:
    """All of them are in this state."""
    for lesson in lessons:
        await eventually(lambda lesson=lesson: is_lesson(client, lesson, state))


async def is_request(client: Any, request: Any, state: int) -> bool:
    return bool((await client.training_request(request.name)).state == state)


async def ask_each(client: Any, peers: Any, *adapters: str, **more: Any) -> list[Any]:
    """A lesson and a request for each of these adapters, in this order."""
    requests = []
    for number, adapter in enumerate(adapters):
        name = await make_adapter(peers, adapter)
        await teach(client, peers, number, adapter=name)
        requests.append(await client.train(adapter=name, **more))
    return requests


async def cancel(client: Any, request: Any, request_id: str = "") -> Any:
    reply = await call(client, "CancelTrainingRequest", name=request.name, request_id=request_id)
    return reply.training_request


async def prioritise(client: Any, request: Any, priority: int, **more: Any) -> Any:
    wanted = learning_pb2.TrainingRequest(name=request.name, priority=priority)
    reply = await call(client, "UpdateTrainingRequest", training_request=wanted, **more)
    return reply.training_request


async def make_adapter(peers: Any, adapter: str) -> str:
    """As trainer_svc registers one."""
    await peers.bus.kv("adapters").put(f"{peers.tenant}.{adapter}", b"{}")
    return names.adapter_name(adapter)


async def is_queued(peers: Any, num_requests: int) -> bool:
    return bool(await peers.num_queued() == num_requests)


async def queued_names(peers: Any) -> list[str]:
    """Requests of the tenant in the work queue, oldest first."""
    jetstream = peers.bus.connection.jetstream()
    info = await jetstream.stream_info("TRAINING")
    found = []
    for sequence in range(info.state.first_seq, info.state.last_seq + 1):
        try:
            stored = await peers.bus.get("TRAINING", sequence)
        except SelmError:
            continue
        if stored.subject.endswith(f".{peers.tenant}"):
            found.append(stored.parse(TrainingRequested).training_request.name)
    return found
