"""Sends dead letters out again, or gives them up. Fulfils dead_letters.DeadLetters.

What has to happen comes first and the decision last, so a crash in between leaves the letter OPEN
and the same call does it again; every part of it may be done twice.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from feedback_svc import core
from feedback_svc.dead_letters import (
    DeadLetter,
    LetterFilter,
    LetterState,
    LetterVerdict,
    Redelivery,
)
from feedback_svc.stream.jetstream import EventStream
from feedback_svc.stream.journal import Journal
from feedback_svc.stream.ledger import Ledger
from feedback_svc.training.dispatcher import Dispatcher
from feedback_svc.training.letters import LetterBook
from feedback_svc.training.maker import Maker
from feedback_svc.training.requests import RequestBook
from selm import names, redelivery, streams
from selm.bus import Bus
from selm.delivery import Delivery
from selm.errors import unavailable
from selm.lessons import LessonState, LessonStep
from selm.publication import Publication
from selm.testing import failpoint

# The durable consumer by which a service hears of recorded feedback.
_CONSUMERS = {"memory_svc": "memory_remember"}
_NUM_AT_ONCE = 64


@dataclass(frozen=True)
class Parts:
    """What the desk works with."""

    stream: EventStream
    journal: Journal
    ledger: Ledger
    letters: LetterBook
    requests: RequestBook
    maker: Maker
    dispatcher: Dispatcher


class LetterDesk:
    """The dead letters of all tenants, as operators may handle them."""

    def __init__(self, bus: Bus, parts: Parts, timeout_s: float) -> None:
        self._bus = bus
        self._parts = parts
        self._letters = parts.letters
        self._timeout_s = timeout_s

    async def list(
        self, tenant: str, wanted: LetterFilter, before: tuple[datetime, str] | None, limit: int
    ) -> list[DeadLetter]:
        self._require_ready()
        newest = sorted(self._letters.of_tenant(tenant), key=_place, reverse=True)
        found = (
            letter
            for letter in newest
            if letter.state in wanted.states and wanted.stream in ("", letter.stream)
        )
        return list(islice((x for x in found if before is None or _place(x) < before), limit))

    async def replay(
        self, tenant: str, who: str, letters: tuple[str, ...], key: core.RequestKey | None
    ) -> int:
        self._require_ready()
        chosen = [self._letters.find(tenant, letter) for letter in letters]
        if not letters:
            chosen = self._letters.open_of(tenant)
        if (count := await self._begun(tenant, key)) is not None:
            return count
        verdict = LetterVerdict(LetterState.REPLAYED, who, "", datetime.now(UTC))
        count = 0
        for letter in _open(chosen):
            carried = await self._carried(letter)
            if carried is None:
                # Whoever it was about was erased meanwhile.
                self._letters.forget(letter)
                continue
            await self._send_again(letter, carried)
            failpoint("feedback.after_replay")
            count += await self._letters.decide(letter, verdict)
        await self._ended(tenant, key, count)
        return count

    async def discard(
        self,
        tenant: str,
        who: str,
        letters: tuple[str, ...],
        reason: str,
        key: core.RequestKey | None,
    ) -> int:
        self._require_ready()
        chosen = [self._letters.find(tenant, letter) for letter in letters]
        if (count := await self._begun(tenant, key)) is not None:
            return count
        verdict = LetterVerdict(LetterState.DISCARDED, who, reason, datetime.now(UTC))
        count = 0
        for letter in _open(chosen):
            await self._give_up(letter, reason)
            failpoint("feedback.after_give_up")
            count += await self._letters.decide(letter, verdict)
        await self._ended(tenant, key, count)
        return count

    async def replay_events(
        self, tenant: str, wanted: Redelivery, key: core.RequestKey | None
    ) -> int:
        self._require_ready()
        if (count := await self._begun(tenant, key)) is not None:
            return count
        subject = streams.any_of(streams.feedback_created(tenant, "").rpartition(".")[0])
        last = wanted.last_sequence or await self._parts.stream.last_sequence(tenant)
        # Named after the call, so that its repeat is the same redelivery and another call is not.
        occasion = key.request_id if key else names.new_id()
        durable, count = _CONSUMERS[wanted.consumer], 0
        waiting: list[Publication] = []
        async with aclosing(self._bus.stored(streams.FEEDBACK.name, [subject])) as stored:
            async for one in stored:
                if one.sequence > last:
                    break
                if one.sequence < wanted.first_sequence:
                    continue
                count += 1
                waiting.append(redelivery.publication_of(one, durable, occasion))
                if len(waiting) == _NUM_AT_ONCE:
                    await self._publish_all(waiting)
                    waiting = []
        await self._publish_all(waiting)
        await self._ended(tenant, key, count)
        return count

    async def _publish_all(self, publications: Sequence[Publication]) -> None:
        async with asyncio.TaskGroup() as group:
            for publication in publications:
                group.create_task(self._bus.publish_one(publication))

    async def _send_again(self, letter: DeadLetter, carried: Delivery) -> None:
        if letter.stream == streams.TRAINING.name and letter.request:
            view = await self._parts.requests.find(letter.tenant, letter.request)
            await self._parts.dispatcher.release_again(view.request)
        elif _is_work_queue(letter.stream):
            # It was taken out of its queue, whose window may still know the first id.
            await self._bus.publish_raw(
                carried.subject,
                carried.payload,
                message_id=f"{carried.message_id}:{letter.letter_id}",
                headers={"Selm-Type": carried.message_type},
                timeout_s=self._timeout_s,
            )
        else:
            publication = redelivery.publication_of(carried, letter.consumer, letter.letter_id)
            await self._bus.publish_one(publication, timeout_s=self._timeout_s)

    async def _give_up(self, letter: DeadLetter, reason: str) -> None:
        """A training request is FAILED already, so its lessons wait again; a lesson ends FAILED."""
        now = datetime.now(UTC)
        if letter.request:
            view = await self._parts.requests.find(letter.tenant, letter.request)
            why = f"{letter.request} was given up: {reason}"
            step = LessonStep(LessonState.REMEMBERED, core.SERVICE, letter.name, why, now)
            await self._parts.maker.give_back(view.request, step)
        elif letter.lesson and letter.consumer in _CONSUMERS.values():
            lesson = self._parts.journal.book.find(letter.tenant, letter.lesson)
            step = LessonStep(LessonState.FAILED, core.SERVICE, letter.name, reason, now)
            if lesson is not None and not lesson.is_final:
                await self._parts.stream.announce_step(lesson, step)

    async def _carried(self, letter: DeadLetter) -> Delivery | None:
        """The message that was given up, as it stood in its stream; None if it is not kept."""
        copy = await self._letters.carried(letter)
        if copy is None:
            return None
        return Delivery(
            subject=copy.headers.get("Selm-Dead-Subject", ""),
            sequence=letter.sequence,
            message_type=copy.message_type,
            payload=copy.payload,
            message_id=copy.headers.get("Selm-Dead-Message-Id", ""),
        )

    def _require_ready(self) -> None:
        self._parts.journal.require_ready()
        if not (self._letters.is_ready and self._parts.requests.is_ready):
            raise unavailable("STARTING", "dead letters are being read", waiting_for="replay")

    async def _begun(self, tenant: str, key: core.RequestKey | None) -> int | None:
        """How many the first call under this request_id settled; None if it is to be done now."""
        if key is None:
            return None
        entry = await self._parts.ledger.find(tenant, key)
        if entry is None:
            entry = await self._parts.ledger.intend(tenant, key, "")
        return int(entry.resource) if entry.is_done else None

    async def _ended(self, tenant: str, key: core.RequestKey | None, count: int) -> None:
        if key is not None:
            await self._parts.ledger.complete(tenant, key, str(count))


def _open(letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    return [letter for letter in letters if letter.state is LetterState.OPEN]


def _place(letter: DeadLetter) -> tuple[datetime, str]:
    return letter.create_time, letter.name


def _is_work_queue(stream: str) -> bool:
    return any(s.name == stream and s.retention == "work_queue" for s in streams.STREAMS)
