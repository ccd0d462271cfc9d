"""The clients: each speaks for one user, one thing after the other, until it has an OK for each.

Whatever is unknown is said again with the same request_id; every call goes into the history.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from selm.api.feedback.v1 import feedback_service_pb2_grpc
from tests.feedback_chaos.history import Answer, Attempt, History, Outcome, Saying
from tests.feedback_chaos.messages import request_of
from tests.feedback_chaos.plan import Turn

TENANT = "chaos"
METADATA = (("x-selm-tenant", TENANT),)
_CALL_S = 5.0
_UNKNOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
# Its own connection, and soon again when the service is back.
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class Client:
    """Says its turns in order."""

    def __init__(self, target: str, turns: Sequence[Turn], history: History, seed: int) -> None:
        self._target = target
        self._turns = turns
        self._history = history
        # How long it waits before it asks again is no part of the plan.
        self._random = random.Random(seed)
        self.num_repeats = 0

    async def speak(self) -> None:
        """All turns; ends early only when it is cancelled."""
        async with grpc.aio.insecure_channel(self._target, options=CHANNEL_OPTIONS) as channel:
            stub = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
            for turn in self._turns:
                await self._take(stub, turn)

    async def _take(self, stub: Any, turn: Turn) -> None:
        self._history.begin(turn.saying)
        times = 2 if turn.is_doubled else 1
        if turn.is_doubled:
            self.num_repeats += 1
        await asyncio.gather(*(self._say(stub, turn.saying) for _ in range(times)))
        if turn.again is not None:
            self.num_repeats += 1
            await self._say(stub, self._turns[turn.again].saying)

    async def _say(self, stub: Any, saying: Saying) -> None:
        request = request_of(saying)
        while True:
            began = time.monotonic()
            try:
                reply = await stub.CreateFeedbackEvent(request, metadata=METADATA, timeout=_CALL_S)
            except grpc.aio.AioRpcError as error:
                outcome = Outcome.UNKNOWN if error.code() in _UNKNOWN else Outcome.FAIL
                self._note(saying, began, outcome, reason=reason_of(error))
                if outcome is Outcome.FAIL:
                    return
                await asyncio.sleep(self._random.uniform(0.02, 0.3))
                continue
            event = reply.feedback_event
            self._note(saying, began, Outcome.OK, Answer(event.name, event.sequence, event.lesson))
            return

    def _note(
        self,
        saying: Saying,
        began: float,
        outcome: Outcome,
        answer: Answer | None = None,
        reason: str = "",
    ) -> None:
        attempt = Attempt(saying.label, began, time.monotonic(), outcome, answer, reason)
        self._history.add(attempt)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The published reason, or the code where nobody was left to give one."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return info.reason
    return f"{error.code().name}: {error.details()}"
