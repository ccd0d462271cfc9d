"""Stream TRAINING as its writer sees it: put a request in, see whether it waits, take it out again.

A message may be taken out only while no trainer was handed it; whether one was, the broker alone
can tell, and only after the message is gone.
"""

import nats.js.errors

from feedback_svc import learning
from feedback_svc.stream.jetstream import Codec, answering
from selm import streams
from selm.bus import Bus
from selm.bus_errors import broker_errors
from selm.errors import SelmError

_STREAM = streams.TRAINING.name


class WorkQueue:
    """The few calls that concern TRAINING, each under a time limit."""

    def __init__(self, bus: Bus, codec: Codec, timeout_s: float) -> None:
        self._bus = bus
        self._codec = codec
        self._timeout_s = timeout_s

    async def put(self, request: learning.TrainingRequest, max_author_share: float) -> int:
        """Its place in the queue. The same release of a request is stored once: by its message id
        while the broker remembers that, and by looking where it stands after that."""
        standing = await self._find(request)
        if standing:
            return standing
        ack = await self._bus.publish(
            streams.training_requested(request.tenant),
            self._codec.training_requested(request, max_author_share),
            message_id=_message_id(request),
            timeout_s=self._timeout_s,
        )
        return ack.sequence

    async def waits(self, sequence: int) -> bool:
        """Stored, and handed to nobody yet."""
        if not sequence or sequence <= await self._handed_out():
            return False
        try:
            async with answering(self._timeout_s):
                await self._bus.get(_STREAM, sequence)
        except SelmError as error:
            if error.reason != "RESOURCE_NOT_FOUND":
                raise
            return False
        return True

    async def withdraw(self, sequence: int) -> bool:
        """Take a message out; True if it is gone and no trainer was ever handed it."""
        async with answering(self._timeout_s):
            try:
                await self._bus.connection.jetstream().delete_msg(_STREAM, sequence)
            except (
                nats.js.errors.NotFoundError,
                nats.js.errors.BadRequestError,
                nats.js.errors.ServerError,
            ):
                return False
        return sequence > await self._handed_out()

    async def _find(self, request: learning.TrainingRequest) -> int:
        """Where this release stands, if it is the tenant's newest; else 0."""
        async with answering(self._timeout_s):
            newest = await self._bus.last(_STREAM, streams.training_requested(request.tenant))
        is_it = newest is not None and newest.message_id == _message_id(request)
        return newest.sequence if newest and is_it else 0

    async def _handed_out(self) -> int:
        """The newest place that the trainers' consumer has given to any of them."""
        with broker_errors():
            async with answering(self._timeout_s):
                jetstream = self._bus.connection.jetstream()
                try:
                    info = await jetstream.consumer_info(_STREAM, streams.TRAINERS)
                except nats.js.errors.NotFoundError:
                    return 0
        return int(info.delivered.stream_seq)


def _message_id(request: learning.TrainingRequest) -> str:
    # Numbered: one that was taken back must be accepted again.
    return f"{request.tenant}:{request.name}:{request.num_releases}"
