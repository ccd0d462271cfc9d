"""One run: start everything, let clients speak while things break, heal, and judge the history."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc

from selm import streams
from selm.api.feedback.v1 import feedback_service_pb2, feedback_service_pb2_grpc
from selm.bus import Bus
from selm.settings import SharedSettings
from tests.chaos_proxy.proxy import ChaosProxy
from tests.feedback_chaos import remembering
from tests.feedback_chaos.breaking import Breaker
from tests.feedback_chaos.checker import Violation, check
from tests.feedback_chaos.clients import CHANNEL_OPTIONS, METADATA, TENANT, Client
from tests.feedback_chaos.history import History, Outcome
from tests.feedback_chaos.messages import content_of, generation_finished, stored_in
from tests.feedback_chaos.plan import NUM_CLIENTS, Plan
from tests.feedback_chaos.processes import Processes, nats_in

_NUM_READ_BACK = 50
_CATCH_UP_S = 300.0
_NUM_SHOWN = 20


@dataclass(frozen=True)
class Report:
    """Counts of one run, and everything that was wrong."""

    counts: dict[str, Any]
    violations: list[Violation]

    @property
    def as_json(self) -> dict[str, Any]:
        verdict = "ok" if not self.violations else f"{len(self.violations)} violations"
        shown = [str(violation) for violation in self.violations[:_NUM_SHOWN]]
        return {**self.counts, "verdict": verdict, "violations": shown}


async def run(folder: Path, plan: Plan, timeout_s: float) -> Report:
    """Carry out the plan in an empty folder; TimeoutError if the clients never get done."""
    history = History()
    nats = nats_in(folder)
    await asyncio.to_thread(nats.start)
    try:
        async with (
            _bus(nats.url) as bus,
            ChaosProxy.open(("127.0.0.1", nats.options.port), plan.seed) as proxy,
        ):
            await _generate(bus, plan)
            processes = Processes(folder, proxy.port, nats, "memory" in plan.sizes.kills)
            try:
                await asyncio.to_thread(processes.start)
                return await _run(plan, history, processes, proxy, bus, timeout_s)
            finally:
                await asyncio.to_thread(processes.stop)
    finally:
        await asyncio.to_thread(nats.stop)


async def _run(
    plan: Plan,
    history: History,
    processes: Processes,
    proxy: ChaosProxy,
    bus: Bus,
    timeout_s: float,
) -> Report:
    began = time.monotonic()
    target = processes.feedback.target
    clients = [
        Client(target, turns, history, plan.seed * 100 + number)
        for number, turns in enumerate(plan.turns)
    ]
    breaker = Breaker(processes, proxy, lambda: len(history.acknowledged))
    async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
        group.create_task(breaker.run(plan))
        for client in clients:
            group.create_task(client.speak())
    spoken = time.monotonic()
    violations = await _judge(plan, history, processes, bus)
    counts = {
        "seed": plan.seed,
        "events": plan.sizes.num_events,
        "corrections": plan.num_corrections,
        "acknowledged": len(history.acknowledged),
        "calls": len(history.attempts),
        "duplicates_sent": sum(client.num_repeats for client in clients),
        "retries": history.num_of(Outcome.UNKNOWN),
        "retried_because": _reasons(history),
        "refused": history.num_of(Outcome.FAIL),
        "kills": dict(breaker.kills),
        "network_faults": dict(breaker.faults),
        "connections_through_proxy": proxy.num_accepted,
        "longest_silence_s": round(_longest_silence(history), 1),
        "speaking_s": round(spoken - began, 1),
        "wall_s": round(time.monotonic() - began, 1),
    }
    return Report(counts, violations)


def _reasons(history: History) -> dict[str, int]:
    unknown = (one for one in history.attempts if one.outcome is Outcome.UNKNOWN)
    # What follows a colon differs from call to call.
    return dict(Counter(attempt.reason.partition(":")[0] for attempt in unknown))


def _longest_silence(history: History) -> float:
    """Longest time in which nobody was answered OK, faults included."""
    ended = sorted(one.ended for one in history.attempts if one.outcome is Outcome.OK)
    return max((after - before for before, after in pairwise(ended)), default=0.0)


async def _judge(plan: Plan, history: History, processes: Processes, bus: Bus) -> list[Violation]:
    await bus.wait_connected()
    deliveries = await bus.read(streams.FEEDBACK.name, streams.FEEDBACK.subjects)
    info = await bus.connection.jetstream().stream_info(streams.FEEDBACK.name)
    assert len(deliveries) == info.state.messages, "the stream was not read whole"
    violations = check(history, stored_in(deliveries))
    violations += await _check_read_back(plan, history, processes)
    if processes.memory is not None:
        violations += await remembering.wait_until_remembered(bus, history, _CATCH_UP_S)
        violations += await remembering.check_memories(
            processes.memory.target, history, NUM_CLIENTS
        )
    return violations


async def _check_read_back(plan: Plan, history: History, processes: Processes) -> list[Violation]:
    """One more restart, after which acknowledged events are still served as they were."""
    await asyncio.to_thread(processes.feedback.kill)
    await asyncio.to_thread(processes.feedback.start)
    await asyncio.to_thread(processes.feedback.wait_until_serving)
    labels = sorted(history.acknowledged)
    sample = random.Random(plan.seed).sample(labels, min(_NUM_READ_BACK, len(labels)))
    violations = []
    async with grpc.aio.insecure_channel(
        processes.feedback.target, options=CHANNEL_OPTIONS
    ) as channel:
        stub = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
        for label in sample:
            answer, content = history.acknowledged[label], history.sayings[label].content
            request = feedback_service_pb2.GetFeedbackEventRequest(name=answer.name)
            try:
                reply = await stub.GetFeedbackEvent(request, metadata=METADATA, timeout=10)
            except grpc.aio.AioRpcError as error:
                violations.append(Violation("not served", f"{label}: {error.details()}"))
                continue
            event = reply.feedback_event
            if (event.name, event.sequence, content_of(event)) != (
                answer.name,
                answer.sequence,
                content,
            ):
                violations.append(Violation("not served", f"{label} is served as {event}"))
    return violations


@contextlib.asynccontextmanager
async def _bus(url: str) -> AsyncIterator[Bus]:
    async with Bus.open(SharedSettings(nats_url=url), "chaos") as bus:
        await bus.ready()
        yield bus


async def _generate(bus: Bus, plan: Plan) -> None:
    for question in plan.questions:
        subject = streams.generation_finished(TENANT, question.generation_id)
        message = generation_finished(question)
        await bus.publish(subject, message, message_id=question.generation_id)
