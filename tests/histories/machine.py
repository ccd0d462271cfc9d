"""Random histories of one tenant, each step checked against the model; kills come in between.

A superseded, deleted or expired value must never be in any answer: not as a hit in scope, not as a
hit out of scope, not in a list. The live one must be found by its own question.
"""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any

import grpc
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from selm.api.memory.v1 import memory_service_pb2_grpc
from selm.bus import Bus
from selm.settings import SharedSettings
from tests.histories.client import HistoryClient, new_tenant
from tests.histories.model import Model, Said
from tests.histories.processes import MemoryProcesses

USERS = ("users/ada", "users/ben")
QUESTIONS = (
    ("What is the capital of Velmora?", "Which city is the capital of Velmora?"),
    ("Who designed the Tarnwick Bridge?", "Who was the designer of the Tarnwick Bridge?"),
    ("When was the Osgrave Institute founded?", "In which year was the Osgrave Institute founded?"),
    ("What language is spoken in Pellimar?", "Which language do people speak in Pellimar?"),
)
# The same question to every reader, and the same key.
SPELLINGS = (str, str.lower, lambda text: f"  {text}  ", lambda text: text.rstrip("?"))

users = st.sampled_from(USERS)
question_numbers = st.integers(0, len(QUESTIONS) - 1)
# After so many histories the next write meets a kill, of memory_svc and of Milvus Lite in turn.
# Not after so many writes: how many there are depends on what is drawn.
_HISTORIES_PER_KILL = 5


class Histories(RuleBasedStateMachine):
    """One history. `processes` and `loop` are set by whoever runs the machine."""

    processes: MemoryProcesses
    loop: asyncio.AbstractEventLoop
    kills: dict[str, int]

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.moments: list[float] = []
        self.count = 0
        self.kills["histories"] = self.kills.get("histories", 0) + 1
        self.run_(self._open())

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.run_(self._close())

    @rule(user=users, number=question_numbers, spelling=st.sampled_from(SPELLINGS))
    def correct(self, user: str, number: int, spelling: Any) -> None:
        """A new value for a question; the process may die while it is being stored."""
        self._say(user, number, spelling(QUESTIONS[number][0]), None, may_kill=True)

    @rule(user=users, number=question_numbers, ttl_s=st.sampled_from((0.2, 0.6)))
    def correct_for_a_while(self, user: str, number: int, ttl_s: float) -> None:
        self._say(user, number, QUESTIONS[number][0], ttl_s, may_kill=False)

    @rule(user=users, number=question_numbers)
    def correct_over_the_bus(self, user: str, number: int) -> None:
        value = self._new_value()
        start = time.time()
        name = self.run_(self.client.correct(user, QUESTIONS[number][0], value))
        self.model.add(Said(user, number, value, name, start))
        self._checked(user, number)

    @rule(user=users, number=question_numbers)
    def repeat(self, user: str, number: int) -> None:
        """The live value once more: counted, not stored."""
        said = self.model.live(user, number)
        if said is None or said.expires is not None:
            return
        reply = self.run_(self.client.create(user, QUESTIONS[number][0], said.value, None))
        assert reply.duplicate
        assert reply.memory.name == said.name
        self._checked(user, number)

    @rule(number=st.integers(0, 200))
    def delete(self, number: int) -> None:
        """Any value ever said, live or not."""
        if not self.model.said:
            return
        said = self.model.said[number % len(self.model.said)]
        self.run_(self._dying(self.client.delete(said.name)))
        self.model.delete(said.name, time.time())
        assert self.run_(self.client.state_of(said.name)) == "DELETED"
        self._checked(said.user, said.question)

    @rule()
    def wait(self) -> None:
        """Until what was said for a while has expired."""
        time.sleep(0.3)
        for user in USERS:
            for number in range(len(QUESTIONS)):
                self._check_search(user, number)

    @rule(number=st.integers(0, 200))
    def look_back(self, number: int) -> None:
        """What was live then, less what was deleted since."""
        if not self.moments:
            return
        moment = self.moments[number % len(self.moments)]
        for user in USERS:
            texts = [m.text for m in self.run_(self.client.listed(user, as_of=moment))]
            for index in range(len(QUESTIONS)):
                allowed, is_needed = self.model.allowed_as_of(user, index, moment, time.time())
                self._assert_only(texts, user, index, allowed, is_needed)

    def _say(
        self, user: str, number: int, question: str, ttl_s: float | None, *, may_kill: bool
    ) -> None:
        value, start = self._new_value(), time.time()
        call = self.client.create(user, question, value, ttl_s)
        reply = self.run_(self._dying(call) if may_kill else call)
        end = time.time()
        assert not reply.duplicate
        expires = None if ttl_s is None else (start + ttl_s, end + ttl_s)
        self.model.add(Said(user, number, value, reply.memory.name, start, expires))
        self._checked(user, number)

    async def _dying(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The answer of a call during which memory_svc or the store may be killed."""
        self.kills["writes"] = self.kills.get("writes", 0) + 1
        num_kills = self.kills.get("memory", 0) + self.kills.get("milvus", 0)
        if num_kills >= self.kills["histories"] // _HISTORIES_PER_KILL:
            return await call
        victim = ("memory", "milvus")[num_kills % 2]
        running = asyncio.ensure_future(call)
        await asyncio.sleep(random.Random(self.count).uniform(0, 0.03))
        self.kills[victim] = self.kills.get(victim, 0) + 1
        if victim == "memory":
            self.processes.memory.kill()
            await asyncio.to_thread(self.processes.memory.start)
        else:
            await asyncio.to_thread(self.processes.kill_milvus_and_restart)
        return await running

    def _checked(self, user: str, number: int) -> None:
        for index in {number, (number + 1) % len(QUESTIONS)}:
            self._check_search(user, index)
        start = time.time()
        texts = [memory.text for memory in self.run_(self.client.listed(user))]
        end = time.time()
        for index in range(len(QUESTIONS)):
            allowed, is_needed = self.model.allowed(user, index, start, end)
            self._assert_only(texts, user, index, allowed, is_needed)
        self.moments.append(time.time())

    def _check_search(self, user: str, number: int) -> None:
        for place, query in enumerate(QUESTIONS[number]):
            start = time.time()
            hits = self.run_(self.client.search(user, query))
            end = time.time()
            texts = [hit.memory.text for hit in hits]
            for index in range(len(QUESTIONS)):
                allowed, is_live = self.model.allowed(user, index, start, end)
                self._assert_only(
                    texts, user, index, allowed, is_live and index == number and place == 0
                )

    def _assert_only(
        self, texts: list[str], user: str, number: int, allowed: set[str], is_needed: bool
    ) -> None:
        """Of all that was ever said of a question, only what is allowed is there."""
        # Of every user: a private value of another one is as forbidden as a superseded one.
        ever = {said.value for said in self.model.said if said.question == number}
        seen = [text for text in texts if text in ever]
        assert set(seen) <= allowed, (seen, allowed, self.model.said)
        assert len(seen) <= 1, seen
        assert seen or not is_needed, (texts, allowed, self.model.said)

    def _new_value(self) -> str:
        self.count += 1
        return f"Answer{self.count} of {self.client.tenant}"

    def run_(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    async def _open(self) -> None:
        self.channel = grpc.aio.insecure_channel(self.processes.target)
        self.opened = Bus.open(SharedSettings(nats_url=self.processes.nats.url), "history")
        bus = await self.opened.__aenter__()
        await bus.wait_connected()
        stub = memory_service_pb2_grpc.MemoryServiceStub(self.channel)
        self.client = HistoryClient(stub, bus, new_tenant())

    async def _close(self) -> None:
        await self.opened.__aexit__(None, None, None)
        await self.channel.close()
