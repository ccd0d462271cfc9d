"""T-02 as a state machine: whatever is sent, repeated or killed, the ledger is the model.

The model knows what each request id stands for; every outcome is told in advance, and what the
broker holds is compared with it. Owns processes and an event loop, since hypothesis runs no loop.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from feedback_svc import composing
from selm import names, streams
from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.bus import Bus
from selm.delivery import MESSAGE_TYPE
from selm.nats_server import NatsServer
from selm.settings import SharedSettings
from tests.integration.feedback.feedback_client import Feedback, refusal_of
from tests.integration.feedback.peers import Peers
from tests.integration.feedback.processes import Child
from tests.integration.feedback.reading_client import batch, list_events

NUM_IDS, NUM_CONTENTS = 6, 5
CRASHES = ("before_publish", "after_publish")
_SETTLED_S = 60.0

ids = st.integers(0, NUM_IDS - 1)
contents = st.integers(0, NUM_CONTENTS - 1)


@dataclass
class Model:
    """What the ledger must hold."""

    tenant: str
    # What each id stands for; and which event holds each content.
    by_id: dict[str, int] = field(default_factory=dict)
    by_content: dict[int, str] = field(default_factory=dict)

    def name(self, request_id: str) -> str:
        return names.feedback_event_name(composing.event_id(self.tenant, request_id))

    def expect(self, request_id: str, content: int) -> str:
        """The outcome of a request, which is taken to be made: an event's name or a reason."""
        if request_id in self.by_id:
            is_same = self.by_id[request_id] == content
            return self.name(request_id) if is_same else "REQUEST_ID_REUSED"
        if content in self.by_content:
            return "FEEDBACK_DUPLICATE"
        self.by_id[request_id] = content
        self.by_content[content] = self.name(request_id)
        return self.by_content[content]


class World:
    """A broker and a feedback_svc that may be killed; each example has its own tenant there."""

    def __init__(self, nats: NatsServer) -> None:
        self.nats = nats
        self.runner = asyncio.Runner()
        self.service = Child(nats.url)
        self.is_up = False
        self.channel: Any = None

    def run(self, work: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await work

        return self.runner.run(awaited())

    async def up(self, failpoints: str = "") -> None:
        """The service runs, armed with these failpoints."""
        if self.is_up and not failpoints:
            return
        await self.down()
        await self.service.start(failpoints, training_paused="true")
        self.is_up = True
        if self.channel is None:
            options = [("grpc.max_reconnect_backoff_ms", 200)]
            self.channel = grpc.aio.insecure_channel(self.service.address, options=options)
        await Feedback(self.channel, "any").wait_ready()

    async def down(self) -> None:
        await self.service.kill()
        self.is_up = False

    async def restart_broker(self) -> None:
        self.nats.kill()
        await asyncio.to_thread(self.nats.start)

    @asynccontextmanager
    async def peers(self, tenant: str) -> AsyncIterator[Peers]:
        async with Bus.open(SharedSettings(nats_url=self.nats.url), "test") as bus:
            await bus.ready()
            yield Peers(bus, tenant)

    def close(self) -> None:
        async def close() -> None:
            if self.channel is not None:
                await self.channel.close()
            await self.down()

        self.run(close())
        self.runner.close()


class LedgerMachine(RuleBasedStateMachine):
    """Every rule is one thing a caller, a process or the broker does."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.tenant = f"t-{uuid.uuid4().hex[:16]}"
        self.model = Model(self.tenant)
        self.request_ids = [str(uuid.uuid4()) for _ in range(NUM_IDS)]
        self.generation = ""

    @initialize()
    def ask(self) -> None:
        async def ask() -> str:
            async with self.world.peers(self.tenant) as peers:
                return await peers.generate()

        self.generation = self.world.run(ask())

    @rule(number=ids, content=contents)
    def send(self, number: int, content: int) -> None:
        """Any id with any content: new, again, with other content, or content under another id."""
        self._send_all([(number, content)])

    @rule(number=ids, content=contents, times=st.integers(2, 5))
    def send_the_same_at_once(self, number: int, content: int, times: int) -> None:
        self._send_all([(number, content)] * times)

    @rule(content=contents, numbers=st.lists(ids, min_size=2, unique=True))
    def send_one_content_under_many_ids_at_once(self, content: int, numbers: list[int]) -> None:
        """One of them makes the event, if none had; which one is not told in advance."""
        outcomes = self._outcomes([(number, content) for number in numbers])
        fresh = [n for n in numbers if self.request_ids[n] not in self.model.by_id]
        if content not in self.model.by_content and fresh:
            winner = next(n for n in fresh if outcomes[numbers.index(n)] != "FEEDBACK_DUPLICATE")
            self.model.expect(self.request_ids[winner], content)
        for number, outcome in zip(numbers, outcomes, strict=True):
            assert outcome == self.model.expect(self.request_ids[number], content)

    @rule(number=ids, several=st.lists(contents, min_size=2, unique=True))
    def send_many_contents_under_one_id_at_once(self, number: int, several: list[int]) -> None:
        """One of them decides what the id stands for, if that was open."""
        request_id = self.request_ids[number]
        outcomes = self._outcomes([(number, content) for content in several])
        if request_id not in self.model.by_id:
            for content, outcome in zip(several, outcomes, strict=True):
                if outcome == self.model.name(request_id):
                    self.model.expect(request_id, content)
        for content, outcome in zip(several, outcomes, strict=True):
            expected = {self.model.expect(request_id, content)}
            if expected == {"REQUEST_ID_REUSED"} and content in self.model.by_content:
                # Told before the id was taken: both are true of this request.
                expected.add("FEEDBACK_DUPLICATE")
            assert outcome in expected

    @rule(
        items=st.lists(st.tuples(ids, contents), min_size=1, max_size=6, unique_by=lambda i: i[1])
    )
    def send_a_batch(self, items: list[tuple[int, int]]) -> None:
        """Each item has the outcome that it would have alone, one after the other."""

        async def send() -> list[str]:
            await self.world.up()
            said = [{"request_id": self.request_ids[n], **self._event(c)} for n, c in items]
            reply = await _until_told(lambda: batch(self._client(), *said))
            return [_outcome(result) for result in reply.results]

        expected = [self.model.expect(self.request_ids[n], c) for n, c in items]
        assert self.world.run(send()) == expected

    @rule(number=ids, content=contents, crash=st.sampled_from(CRASHES))
    def crash_while_sending(self, number: int, content: int, crash: str) -> None:
        """kill -9 before or after the write; the same id then ends in the same single event."""
        request_id = self.request_ids[number]
        is_new = request_id not in self.model.by_id and content not in self.model.by_content

        async def send() -> str:
            await self.world.up(f"feedback.{crash}=exit(137)")
            try:
                return await self._send(request_id, content)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
            await self.world.service.died()
            await self.world.down()
            return ""

        outcome = self.world.run(send())
        if not is_new:
            assert outcome == self.model.expect(request_id, content)
        elif crash == "after_publish":
            self.model.expect(request_id, content)
        assert bool(outcome) is not is_new
        self.world.run(self.world.down())

    @rule()
    def kill_the_service(self) -> None:
        self.world.run(self.world.down())

    @rule()
    def kill_the_broker(self) -> None:
        self.world.run(self.world.restart_broker())

    @rule(items=st.lists(st.tuples(ids, contents), min_size=1, max_size=4))
    def kill_the_broker_while_sending(self, items: list[tuple[int, int]]) -> None:
        """Whoever is not answered asks again; what is new is made once."""
        seen: set[int] = set()
        fit = []
        for number, content in items:
            if number not in seen and NUM_IDS + content not in seen:
                fit.append((number, content))
                seen |= {number, NUM_IDS + content}
        self._send_all(fit, beside=self.world.restart_broker)

    @rule()
    def redeliver(self) -> None:
        """What is stored is published again under its id, as by a caller that saw no answer."""

        async def redeliver() -> None:
            async with self.world.peers(self.tenant) as peers:
                for stored in await peers.bus.read(streams.FEEDBACK.name, [self._subject]):
                    ack = await peers.bus.publish_raw(
                        stored.subject,
                        stored.payload,
                        message_id=stored.message_id,
                        # Not all it was stored with: those of a batch would begin another.
                        headers={MESSAGE_TYPE: stored.message_type},
                    )
                    assert ack.duplicate
                    assert ack.sequence == stored.sequence

        self.world.run(redeliver())

    def teardown(self) -> None:
        """The set of stored events is the model's, each once; a list tells the same, in order."""

        async def read() -> tuple[list[Any], list[Any]]:
            await self.world.up()
            async with self.world.peers(self.tenant) as peers:
                stored = await peers.bus.read(streams.FEEDBACK.name, [self._subject])
            listed = await _until_told(lambda: list_events(self._client(), 500))
            return stored, list(listed.feedback_events)

        if not self.generation:
            return
        stored, listed = self.world.run(read())
        assert sorted(one.message_id for one in stored) == sorted(self.model.by_content.values())
        by_sequence = {one.sequence: one.message_id for one in stored}
        assert [(event.sequence, event.name) for event in listed] == sorted(
            by_sequence.items(), reverse=True
        )
        for event in listed:
            content = _content_of(event)
            assert self.model.by_content[content] == event.name

    @property
    def _subject(self) -> str:
        return f"selm.feedback.created.{self.tenant}.>"

    def _client(self) -> Feedback:
        return Feedback(self.world.channel, self.tenant)

    def _event(self, content: int) -> dict[str, Any]:
        return {"generation": self.generation, "comment": pb.Comment(text=f"Remark {content}.")}

    async def _send(self, request_id: str, content: int) -> str:
        """The name of the event, or the reason of the refusal; raises what is no outcome."""
        try:
            reply = await self._client().create(request_id=request_id, **self._event(content))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise
            return refusal_of(error).reason
        return str(reply.feedback_event.name)

    def _outcomes(
        self,
        items: Sequence[tuple[int, int]],
        beside: Callable[[], Awaitable[None]] | None = None,
    ) -> list[str]:
        async def send() -> list[str]:
            await self.world.up()
            sends = [
                _until_told(lambda n=number, c=content: self._send(self.request_ids[n], c))
                for number, content in items
            ]
            others = [beside()] if beside else []
            return (await asyncio.gather(*sends, *others))[: len(items)]

        return list(self.world.run(send()))

    def _send_all(
        self,
        items: Sequence[tuple[int, int]],
        beside: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """All at once, where the outcome of each does not depend on the order."""
        outcomes = self._outcomes(items, beside)
        assert outcomes == [self.model.expect(self.request_ids[n], c) for n, c in items]


async def _until_told(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeats a call, unchanged, until its outcome is known."""
    async with asyncio.timeout(_SETTLED_S):
        while True:
            try:
                reply = await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            else:
                if not any(_is_open(result) for result in getattr(reply, "results", ())):
                    return reply
            await asyncio.sleep(0.05)


def _is_open(result: Any) -> bool:
    return bool(result.failure.retryable)


def _outcome(result: Any) -> str:
    if result.feedback_event.name:
        return str(result.feedback_event.name)
    return ErrorReason.Name(result.failure.reason).removeprefix("ERROR_REASON_")


def _content_of(event: Any) -> int:
    return int(event.comment.text.removeprefix("Remark ").removesuffix("."))
