"""The cache of vectors under calls that overlap."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from memory_svc.store import embedder as module
from memory_svc.store.embedder import SentenceEmbedder


class SlowModel:
    """Encodes when it is allowed to; a vector is the length of its text."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.num_encoded = 0

    def encode(self, texts: list[str], **_: Any) -> list[list[float]]:
        self.may_go_on.wait(10)
        self.num_encoded += len(texts)
        return [[float(len(text))] for text in texts]


async def test_a_text_that_others_crowd_out_of_the_cache_is_still_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Known when the call began, forgotten while it waited for the model."""
    monkeypatch.setattr(module, "_MAX_CACHED", 2)
    model = SlowModel()
    with ThreadPoolExecutor(max_workers=1) as executor:
        embedder = SentenceEmbedder(model, "model", executor)
        await embedder.embed(["a"])
        model.may_go_on.clear()
        # Queued first, so that its texts fill the cache before the second call goes on.
        crowd = asyncio.create_task(embedder.embed(["bb", "ccc"]))
        await asyncio.sleep(0)
        call = asyncio.create_task(embedder.embed(["a", "dddd"]))
        await asyncio.sleep(0)
        model.may_go_on.set()
        await crowd

        assert await call == [(1.0,), (4.0,)]


async def test_the_cache_keeps_what_was_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is asked for again stays, an older one is encoded anew."""
    monkeypatch.setattr(module, "_MAX_CACHED", 2)
    model = SlowModel()
    with ThreadPoolExecutor(max_workers=1) as executor:
        embedder = SentenceEmbedder(model, "model", executor)
        for text in ("a", "b", "a", "c", "a"):
            await embedder.embed([text])
        assert model.num_encoded == 3
        await embedder.embed(["b"])

    assert model.num_encoded == 4
