"""Dead letters as stream DEAD_LETTERS and the bucket of decisions tell them.

What a letter carries stays in the stream until somebody needs it. Key `{tenant}.{dead_letter}` of
the bucket says what a person decided; a letter without a decision is OPEN.
"""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from datetime import datetime
from typing import Any

from feedback_svc.core import Failure
from feedback_svc.dead_letters import DeadLetter, LetterState, LetterVerdict
from feedback_svc.stream.jetstream import Codec, answering
from selm import streams
from selm.bus import Bus
from selm.delivery import CaughtUp, Delivery
from selm.errors import SelmError, not_found
from selm.kv import Entry, KeyValue
from selm.log import get_logger

BUCKET = "dead_letters"
_RETRY_S = 0.5
_log = get_logger("feedback_svc.letters")


class LetterBook:
    """All dead letters; fulfils requests.GivenUp."""

    def __init__(self, bus: Bus, bucket: KeyValue, codec: Codec, timeout_s: float) -> None:
        self._bus = bus
        self._bucket = bucket
        self._codec = codec
        self._timeout_s = timeout_s
        self._letters: dict[tuple[str, str], DeadLetter] = {}
        self._verdicts: dict[tuple[str, str], tuple[int, LetterVerdict]] = {}
        # The newest letter about each training request.
        self._of_request: dict[tuple[str, str], tuple[str, str]] = {}
        self._to_read = {BUCKET, streams.DEAD_LETTERS.name}

    @property
    def is_ready(self) -> bool:
        return not self._to_read

    def followers(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside the calls, each until cancelled."""
        return [self._follow_letters(), self._follow_verdicts()]

    def failure_of_request(self, tenant: str, request: str) -> Failure | None:
        """Why the trainers' consumer gave a request up, unless it was sent once more since."""
        key = self._of_request.get((tenant, request))
        letter = self._shown(key) if key else None
        if letter is None or letter.state is LetterState.REPLAYED:
            return None
        metadata = {"attempts": str(letter.num_deliveries), "last_reason": letter.failure.reason}
        return Failure("ATTEMPTS_EXHAUSTED", letter.failure.message, metadata)

    def find(self, tenant: str, letter_id: str) -> DeadLetter:
        letter = self._shown((tenant, letter_id))
        if letter is None:
            raise not_found(f"deadLetters/{letter_id}")
        return letter

    def of_tenant(self, tenant: str) -> list[DeadLetter]:
        return [x for key in self._letters if key[0] == tenant and (x := self._shown(key))]

    def open_of(self, tenant: str) -> list[DeadLetter]:
        return [x for x in self.of_tenant(tenant) if x.state is LetterState.OPEN]

    def all_open(self) -> Iterator[DeadLetter]:
        for key in tuple(self._letters):
            letter = self._shown(key)
            if letter is not None and letter.state is LetterState.OPEN:
                yield letter

    async def carried(self, letter: DeadLetter) -> Delivery | None:
        """The message as the consumer had it; None if it was erased since."""
        subject = streams.dead_letter_created(letter.tenant, letter.letter_id)
        async with answering(self._timeout_s):
            return await self._bus.last(streams.DEAD_LETTERS.name, subject)

    async def decide(self, letter: DeadLetter, verdict: LetterVerdict) -> bool:
        """Write the decision down; False if another was there first."""
        path = f"{letter.tenant}.{letter.letter_id}"
        fields = {
            "state": verdict.state,
            "who": verdict.who,
            "reason": verdict.reason,
            "time": verdict.time.isoformat(),
        }
        try:
            async with answering(self._timeout_s):
                revision = await self._bucket.create(path, json.dumps(fields).encode())
        except SelmError as error:
            if error.reason != "RESOURCE_EXISTS":
                raise
            return False
        self._verdicts[letter.tenant, letter.letter_id] = (revision, verdict)
        return True

    def forget(self, letter: DeadLetter) -> None:
        """It is not stored any more: whoever it was about was erased."""
        self._letters.pop((letter.tenant, letter.letter_id), None)

    def _shown(self, key: tuple[str, str]) -> DeadLetter | None:
        letter, verdict = self._letters.get(key), self._verdicts.get(key)
        return letter.after(verdict[1]) if letter and verdict else letter

    async def _follow_letters(self) -> None:
        spec = streams.DEAD_LETTERS
        async for item in self._bus.replay(spec.name, spec.subjects):
            if isinstance(item, CaughtUp):
                self._to_read.discard(spec.name)
                continue
            try:
                letter = self._codec.dead_letter(item)
            except (SelmError, ValueError) as error:
                _log.error("unreadable", stream=spec.name, seq=item.sequence, error=str(error))
                continue
            key = (letter.tenant, letter.letter_id)
            self._letters[key] = letter
            if letter.request:
                self._of_request[letter.tenant, letter.request] = key

    async def _follow_verdicts(self) -> None:
        while BUCKET in self._to_read:
            try:
                for key in await self._bucket.keys():
                    self._learn(key, await self._bucket.get(key))
                self._to_read.discard(BUCKET)
            except SelmError as error:
                _log.warning("verdicts_not_read", error=str(error))
                await asyncio.sleep(_RETRY_S)
        async for key, entry in self._bucket.watch():
            self._learn(key, entry)

    def _learn(self, path: str, entry: Entry | None) -> None:
        tenant, _, letter_id = path.partition(".")
        if entry is None or entry.revision <= self._verdicts.get((tenant, letter_id), (0, None))[0]:
            return
        try:
            fields = json.loads(entry.value)
            verdict = LetterVerdict(
                LetterState(fields["state"]),
                fields["who"],
                fields["reason"],
                datetime.fromisoformat(fields["time"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            _log.error("unreadable", bucket=BUCKET, key=path, error=repr(error))
            return
        self._verdicts[tenant, letter_id] = (entry.revision, verdict)
