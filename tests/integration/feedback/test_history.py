"""Random histories of sends, repeats and faults: what is stored equals what the callers mean."""

import asyncio
import random
import uuid

import grpc
import pytest

from selm.testing import ENVIRONMENT_VARIABLE

FAULTS = ["before_publish", "after_publish"]


@pytest.mark.parametrize("seed", range(3))
async def test_every_request_counts_once_whatever_fails_in_between(
    seed, client, peers, monkeypatch
):
    """Sends, repeats, races and failures at each persistence step, in random order."""
    dice = random.Random(seed)
    generations = [await peers.generate() for _ in range(3)]
    texts: dict[str, str] = {}
    names: dict[str, str] = {}

    async def send(request_id: str, *, is_faulty: bool) -> None:
        fault = f"feedback.{dice.choice(FAULTS)}=raise(BUS_UNAVAILABLE)" if is_faulty else ""
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, fault)
        number = int(texts[request_id].removeprefix("answer "))
        call = client.correct(generations[number % 3], texts[request_id], request_id=request_id)
        try:
            name = (await call).feedback_event.name
        except grpc.aio.AioRpcError as error:
            # A repeat of what was stored meets no fault, although its first answer was one.
            assert is_faulty and error.code() is grpc.StatusCode.UNAVAILABLE
            return
        assert names.setdefault(request_id, name) == name

    for number in range(60):
        new = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        known = dice.choice([*texts, new])
        texts.setdefault(known, f"answer {number}")
        match dice.randrange(4):
            case 0:
                await send(known, is_faulty=True)
            case 1:
                await asyncio.gather(*(send(known, is_faulty=False) for _ in range(3)))
            case _:
                await send(known, is_faulty=False)
    for request_id in texts:
        await send(request_id, is_faulty=False)
    stored = [message.feedback_event for message in await peers.recorded()]
    assert {event.name: event.correction.text for event in stored} == {
        names[request_id]: text for request_id, text in texts.items()
    }
    assert len(stored) == len(texts)
