"""Group commit: appends that come at the same time share one atomic batch, and one sync to disk.

While a batch is on its way the next ones gather; a few go as plain publishes, one behind the other.
Appends are stored in the order they were called. The members of a batch that is refused are
published one by one, so that each has its own answer. Knows nothing of what is stored, and never
repeats what may have been stored: that is the caller's part, with the same message id.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from google.protobuf.message import Message

from selm.bus import Bus
from selm.bus_batch import MAX_MESSAGES
from selm.bus_errors import BatchRefusedError, bus_unavailable
from selm.errors import SelmError
from selm.log import get_logger
from selm.metrics import BATCH_MESSAGES
from selm.publication import Publication, PublishAck
from selm.streams import stream_spec
from selm.tasks import end_tasks, honour_cancellation

_log = get_logger("selm.bus")

_MAX_BATCH_BYTES = 1024 * 1024
# So few are sooner stored one by one: a batch costs the broker some milliseconds of its own.
_FEW = 16
# One member that is refused for these must not take the others with it.
_OWN_FAULTS = frozenset({"STORAGE_FULL", "MESSAGE_TOO_LARGE"})


@dataclass(frozen=True, eq=False)
class _Append:
    publication: Publication
    num_bytes: int
    outcome: asyncio.Future[PublishAck]

    @property
    def is_open(self) -> bool:
        """Its caller still waits."""
        return not self.outcome.done()

    def succeed(self, ack: PublishAck) -> None:
        if self.is_open:
            self.outcome.set_result(ack)

    def fail(self, error: Exception) -> None:
        if self.is_open:
            self.outcome.set_exception(error)


class GroupCommitter:
    """Appends to one stream; `running()` or `run()` must be at work for anything to be stored."""

    def __init__(
        self,
        bus: Bus,
        stream: str,
        *,
        timeout_s: float = 5.0,
        max_batch: int = 256,
        max_waiting: int = 4096,
    ) -> None:
        if not stream_spec(stream).has_batches:
            raise ValueError(f"stream {stream} takes no batches")
        self._bus = bus
        self._stream = stream
        self._timeout_s = timeout_s
        self._max_batch = min(max_batch, MAX_MESSAGES)
        self._max_waiting = max_waiting
        self._waiting: deque[_Append] = deque()
        self._has_work = asyncio.Event()

    async def append(
        self,
        subject: str,
        message: Message,
        *,
        message_id: str,
        headers: Mapping[str, str] | None = None,
    ) -> PublishAck:
        """Store one message; returns only after the broker synced it. Repeats keep `message_id`.

        BUS_UNAVAILABLE: it may be stored all the same. QUEUE_FULL, STORAGE_FULL: it is not.
        """
        if len(self._waiting) >= self._max_waiting:
            raise SelmError("QUEUE_FULL", f"{self._max_waiting} appends to {self._stream} wait")
        publication = Publication.of(subject, message, message_id, headers)
        # Without a connection this raises at once: nothing may wait for one that might never come.
        num_bytes = publication.num_bytes
        if num_bytes > self._bus.connection.client.max_payload:
            raise SelmError("MESSAGE_TOO_LARGE", "larger than the bus accepts")
        append = _Append(publication, num_bytes, asyncio.get_running_loop().create_future())
        self._waiting.append(append)
        self._has_work.set()
        # A caller that is cancelled or runs out of time takes only its own future with it.
        try:
            async with asyncio.timeout(self._timeout_s):
                return await append.outcome
        except TimeoutError as error:
            raise bus_unavailable(f"not acknowledged in {self._timeout_s:g} s") from error

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Store what is appended until the end of the block."""
        task = asyncio.create_task(self.run(), name=f"group-commit-{self._stream}")
        try:
            yield
        finally:
            await end_tasks([task])
            # A task that is cancelled before its first step never comes to its own clean-up.
            self._give_up(self._waiting)

    async def run(self) -> None:
        """Store what is appended, one batch after the other, until cancelled."""
        batch: list[_Append] = []
        try:
            while True:
                await self._has_work.wait()
                batch = self._take()
                await self._store(batch)
                honour_cancellation()
        finally:
            self._give_up([*batch, *self._waiting])

    def _give_up(self, appends: Iterable[_Append]) -> None:
        for append in appends:
            append.fail(bus_unavailable("stopping"))
        self._waiting.clear()

    def _take(self) -> list[_Append]:
        """The longest run of waiting appends that one batch may hold."""
        batch: list[_Append] = []
        message_ids: set[str] = set()
        num_bytes = 0
        while self._waiting and len(batch) < self._max_batch:
            append = self._waiting[0]
            publication = append.publication
            num_bytes += append.num_bytes
            if batch and (
                num_bytes > _MAX_BATCH_BYTES
                # The second of two with one id goes in the next batch, where it is a duplicate.
                or publication.message_id in message_ids
            ):
                return batch
            self._waiting.popleft()
            if append.is_open:
                message_ids.add(publication.message_id)
                batch.append(append)
        if not self._waiting:
            self._has_work.clear()
        return batch

    async def _store(self, batch: Sequence[_Append]) -> None:
        """Give every member its answer."""
        batch = [append for append in batch if append.is_open]
        BATCH_MESSAGES.labels(stream=self._stream).observe(len(batch))
        if len(batch) < _FEW:
            await self._store_each(batch)
            return
        publications = [append.publication for append in batch]
        try:
            acks = await self._bus.publish_batch(publications, timeout_s=self._timeout_s)
        except (BatchRefusedError, SelmError) as error:
            if _is_of_one_member(error):
                # Nothing of it was stored; each shall have its own answer.
                await self._store_each(batch)
            else:
                self._fail(batch, error)
        except Exception as error:
            # A bug in one message must not end the appends of everybody else.
            _log.exception("group_commit_failed", stream=self._stream)
            self._fail(batch, error)
        else:
            for append, ack in zip(batch, acks, strict=True):
                append.succeed(ack)

    async def _store_each(self, batch: Sequence[_Append]) -> None:
        """Publish one behind the other without waiting in between: the broker keeps the order."""
        await asyncio.gather(*map(self._store_one, batch))

    async def _store_one(self, append: _Append) -> None:
        try:
            ack = await self._bus.publish_one(append.publication, timeout_s=self._timeout_s)
        except SelmError as error:
            append.fail(_copy(error))
        except Exception as error:
            _log.exception("group_commit_failed", stream=self._stream)
            append.fail(_copy(error))
        else:
            append.succeed(ack)

    def _fail(self, batch: Sequence[_Append], error: Exception) -> None:
        for append in batch:
            append.fail(_copy(error))


def _is_of_one_member(error: Exception) -> bool:
    return isinstance(error, BatchRefusedError) or (
        isinstance(error, SelmError) and error.reason in _OWN_FAULTS
    )


def _copy(error: Exception) -> Exception:
    """Each caller raises one of its own, or their tracebacks would grow into each other."""
    if isinstance(error, SelmError):
        copy = SelmError(error.reason, error.message, retry_after_s=error.retry_after_s)
    else:
        copy = SelmError("INTERNAL", "a message could not be appended")
    copy.__cause__ = error
    return copy
