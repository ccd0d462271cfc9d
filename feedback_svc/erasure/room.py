"""The parts of this room wired together on a bus; part of the composition root, opens nothing."""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from feedback_svc import core, forgetting
from feedback_svc.erasure.book import ErasureBook
from feedback_svc.erasure.copy_purge import CopyPurge, GenerationCodec
from feedback_svc.erasure.feedback_purge import FeedbackCodec, FeedbackPurge
from feedback_svc.erasure.office import Office
from feedback_svc.erasure.part import Part
from feedback_svc.erasure.preview import Preview
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.ledger import Ledger
from selm.bus import Bus
from selm.erasure_bus import ErasureConsumer, ErasureStream


class Codec(FeedbackCodec, GenerationCodec, Protocol):
    """Messages that an erasure looks at; see events.erasure."""


@dataclass(frozen=True)
class Neighbours:
    """What the room needs from others."""

    memories: forgetting.MemoryCount
    datasets: forgetting.Datasets
    rebuilder: forgetting.Rebuilder
    ledger: Ledger


class ErasureRoom:
    """What is used from outside."""

    def __init__(
        self, bus: Bus, codec: Codec, journal: Journal, neighbours: Neighbours, timeout_s: float
    ) -> None:
        stream, copies = ErasureStream(bus), CopyPurge(bus, codec)
        purge = FeedbackPurge(bus, codec)
        part = Part(stream, purge, copies, neighbours.datasets, neighbours.rebuilder)
        preview = Preview(
            journal.event_book.of_tenant, journal.book.all_of, copies, neighbours.memories
        )
        self.book = ErasureBook(bus, timeout_s)
        self.office = Office(stream, self.book, neighbours.ledger, preview, timeout_s)
        self._consumer = ErasureConsumer(bus, core.SERVICE, part)

    def followers(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the calls, each until cancelled."""
        return [self.book.follow(), self._consumer.run()]
