"""Many signals in one call: which of them contradict another, and recording each on its own. Pure.

Knows no protobuf and no broker; what is durable is the business of the Recorder.
"""

import asyncio
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from feedback_svc import composing, core
from feedback_svc.signals import Correction, Rating, Signal, Thumbs, is_good, kind_of
from selm.errors import SelmError

# Items under way at once: enough for the broker to store them in groups.
MAX_CONCURRENT = 64


@dataclass(frozen=True)
class Item:
    """One valid request of a batch."""

    index: int
    draft: core.Draft
    key: core.RequestKey


Outcome = core.FeedbackRecord | SelmError


class Batches:
    """Records items side by side; one that fails keeps no other from being recorded."""

    def __init__(self, recorder: core.Recorder) -> None:
        self._recorder = recorder

    async def record(
        self, tenant: str, author: str, items: Sequence[Item]
    ) -> Mapping[int, Outcome]:
        """What became of each item, by its index."""
        outcomes: dict[int, Outcome] = dict(await self._refused(tenant, items))
        rest = [item for item in items if item.index not in outcomes]
        limit = asyncio.Semaphore(MAX_CONCURRENT)

        async def record_in_turn(repeats: Sequence[Item]) -> None:
            for item in repeats:
                async with limit:
                    outcomes[item.index] = await self._record(tenant, author, item)

        async with asyncio.TaskGroup() as group:
            for repeats in _by_request_id(rest):
                group.create_task(record_in_turn(repeats))
        return outcomes

    async def _refused(self, tenant: str, items: Sequence[Item]) -> Mapping[int, SelmError]:
        """What contradicts another item, but for what an earlier call has recorded already."""
        recorded: set[int] = set()
        while refused := contradictions(items, recorded):
            doubtful = [item for item in items if item.index in refused]
            known = {item.index for item in doubtful if await self._is_known(tenant, item)}
            if not known:
                break
            recorded |= known
        return refused

    async def _is_known(self, tenant: str, item: Item) -> bool:
        name = composing.event_name(composing.event_id(tenant, item.key.request_id))
        try:
            await self._recorder.get(tenant, name)
        except SelmError as error:
            if error.reason != "RESOURCE_NOT_FOUND":
                raise
            return False
        return True

    async def _record(self, tenant: str, author: str, item: Item) -> Outcome:
        try:
            return await self._recorder.record(tenant, author, item.draft, item.key)
        except SelmError as error:
            return error


def contradictions(items: Sequence[Item], recorded: Set[int] = frozenset()) -> dict[int, SelmError]:
    """Items that say the opposite of another about the same answer for the same user.

    A correction stands, and praise beside it is refused. Of praise and blame the first one stands.
    What is recorded came before all the rest, and is never refused: it answers as it did.
    """
    refused: dict[int, SelmError] = {}
    stands: dict[tuple[str, str], Signal] = {}
    for item in items:
        if isinstance(item.draft.signal, Correction):
            stands.setdefault(_subject(item), item.draft.signal)
    for item in sorted(items, key=lambda item: item.index not in recorded):
        verdict = _verdict(item.draft.signal)
        if verdict is None:
            continue
        other = stands.setdefault(_subject(item), item.draft.signal)
        if verdict is not _verdict(other) and item.index not in recorded:
            refused[item.index] = _contradictory(item.draft.signal, other)
    return refused


def _verdict(signal: Signal) -> bool | None:
    """Whether a person called the answer good or bad; what was merely done says neither."""
    match signal:
        case Correction():
            return False
        case Thumbs() | Rating():
            return is_good(signal)
    return None


def _subject(item: Item) -> tuple[str, str]:
    # A service that speaks for many users brings what they disagree about.
    return item.draft.target, item.draft.user


def _by_request_id(items: Sequence[Item]) -> list[list[Item]]:
    """Items of the same request id belong together, in order: the first of them settles it."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.key.request_id, []).append(item)
    return list(groups.values())


def _contradictory(signal: Signal, other: Signal) -> SelmError:
    said, against = kind_of(signal).name.lower(), kind_of(other).name.lower()
    return SelmError(
        "FEEDBACK_CONTRADICTORY",
        f"the {said} contradicts the {against} of the same batch about the same answer",
        metadata={"signal": said, "conflicts_with": against},
    )
