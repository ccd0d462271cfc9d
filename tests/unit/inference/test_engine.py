"""The engine: bounds, aborts, faults. Whoever leaves, whatever breaks, the others go on."""

import asyncio
from collections import Counter

import pytest

from inference_svc.core import FinishReason, Sampling
from inference_svc.engine import kv_cache
from inference_svc.engine.detokenizer import Detokenizer
from inference_svc.engine.engine import AsyncEngine
from inference_svc.engine.room import EngineLimits
from inference_svc.engine.sampler import RowSampler
from inference_svc.engine.scheduler import Scheduler
from selm.errors import SelmError
from tests.unit.inference.support import read, tokens


async def idle(engine: AsyncEngine) -> None:
    """Waits until the engine thread has nothing left, by the engine's own clock: its steps."""
    while engine.num_unfinished or engine.num_running:
        await engine.between_steps(lambda: None)


async def test_batched_rows_equal_each_row_alone(start_engine) -> None:
    """Prompts of different length together say what they say alone, and in chunks as well."""
    texts = ["a", "one two three", "the quick brown fox jumps over it " * 4, "zz top"]
    async with start_engine(EngineLimits(max_running=1, num_threads=1)) as engine:
        alone = [
            await read(engine.submit(engine.prompt((), raw=text), tokens(12), 0)) for text in texts
        ]
    async with start_engine(
        EngineLimits(max_running=4, num_threads=1, prefill_chunk_tokens=16)
    ) as engine:
        runs = [engine.submit(engine.prompt((), raw=text), tokens(12), 0) for text in texts]
        together = await asyncio.gather(*map(read, runs))

    assert together == alone


async def test_more_than_the_rows_wait_and_all_are_answered(start_engine) -> None:
    """Five generations on two rows: every one ends with its tokens."""
    async with start_engine(EngineLimits(max_running=2, num_threads=1)) as engine:
        prompt = engine.prompt((), raw="hello")
        runs = [engine.submit(prompt, tokens(5), 0) for _ in range(5)]
        await asyncio.gather(*map(read, runs))

        assert [len(run.ending.tokens) for run in runs] == [5] * 5
        assert (engine.num_running, engine.num_reserved_cache_tokens) == (0, 0)


async def test_full_waiting_room_refuses(start_engine) -> None:
    """One more than rows and waiting room hold is QUEUE_FULL, at once."""
    limits = EngineLimits(max_running=1, max_waiting=1, num_threads=1)
    async with start_engine(limits) as engine:
        prompt = engine.prompt((), raw="hello")
        runs = [engine.submit(prompt, tokens(200), 0) for _ in range(2)]
        with pytest.raises(SelmError, match="waiting room") as refused:
            engine.submit(prompt, tokens(5), 0)
        for run in runs:
            run.abort()

    assert refused.value.reason == "QUEUE_FULL"


async def test_abort_frees_row_and_memory_within_two_steps(start_engine) -> None:
    """An aborted generation holds nothing two steps later and its reader learns why."""
    async with start_engine() as engine:
        prompt = engine.prompt((), raw="hello")
        run = engine.submit(prompt, tokens(500), 0)
        other = engine.submit(prompt, tokens(500), 0)
        async for _ in run:
            run.abort()
            break
        for _ in range(2):
            await engine.between_steps(lambda: None)
        num_running, num_tokens = engine.num_running, engine.num_reserved_cache_tokens
        with pytest.raises(SelmError) as ended:
            await read(run)
        other.abort()

    assert (num_running, num_tokens) == (1, len(prompt.tokens) + 500)
    assert ended.value.reason == "ABORTED_BY_CALLER"


async def test_abort_while_waiting_frees_the_place(start_engine) -> None:
    """A generation that never got a row leaves the waiting room."""
    async with start_engine(EngineLimits(max_running=1, num_threads=1)) as engine:
        prompt = engine.prompt((), raw="hello")
        first, second = (engine.submit(prompt, tokens(300), 0) for _ in range(2))
        second.abort()
        with pytest.raises(SelmError):
            await read(second)
        num_unfinished = engine.num_unfinished
        first.abort()

    assert num_unfinished == 1


async def test_aborting_twice_or_late_does_nothing(start_engine) -> None:
    """The end of a generation happens once."""
    async with start_engine() as engine:
        run = engine.submit(engine.prompt((), raw="hello"), tokens(3), 0)
        await read(run)
        run.abort()
        run.abort()
        await idle(engine)

        assert run.ending.finish_reason is FinishReason.MAX_TOKENS
        assert engine.num_reserved_cache_tokens == 0


async def test_reader_that_stands_still_is_ended(start_engine) -> None:
    """Over the bound of unread deltas the generation ends CLIENT_TOO_SLOW and frees its row."""
    async with start_engine(EngineLimits(max_unread=8, num_threads=1)) as engine:
        run = engine.submit(engine.prompt((), raw="hello"), tokens(500), 0)
        await idle(engine)
        with pytest.raises(SelmError) as ended:
            await read(run)

    assert ended.value.reason == "CLIENT_TOO_SLOW"
    assert ended.value.metadata == {"buffered_frames": "8"}


async def test_context_is_checked_before_anything_runs(start_engine) -> None:
    """Input and output over the context say CONTEXT_TOO_LONG with the numbers."""
    async with start_engine() as engine:
        prompt = engine.prompt((), raw="word " * 3000)
        with pytest.raises(SelmError) as refused:
            engine.submit(prompt, Sampling(), 0)

    assert refused.value.reason == "CONTEXT_TOO_LONG"
    assert refused.value.metadata["context_length"] == "2048"
    assert refused.value.metadata["input_tokens"] == str(len(prompt.tokens))


async def test_unset_output_length_takes_the_room_left(start_engine) -> None:
    """A prompt that leaves less than the default gets what is left."""
    async with start_engine() as engine:
        prompt = engine.prompt((), raw="word " * 2030)
        run = engine.submit(prompt, Sampling(ignore_end=True), 0)
        await read(run)

    assert len(run.ending.tokens) == 2048 - len(prompt.tokens)


async def test_request_that_never_fits_the_cache_is_refused(start_engine) -> None:
    """A single request over the whole cache is KV_CACHE_EXHAUSTED, not a wait for ever."""
    async with start_engine(EngineLimits(cache_bytes=100 * 768, num_threads=1)) as engine:
        with pytest.raises(SelmError) as refused:
            engine.submit(engine.prompt((), raw="hello"), tokens(200), 0)

    assert refused.value.reason == "KV_CACHE_EXHAUSTED"


async def test_stop_sequence_ends_and_is_left_out(start_engine) -> None:
    """The text before the stop sequence is the answer."""
    async with start_engine() as engine:
        prompt = engine.prompt((), raw="hello")
        whole = await read(engine.submit(prompt, tokens(8), 0))
        stop = whole[len(whole) // 2 :][:3]
        run = engine.submit(prompt, tokens(8, stop_sequences=(stop,)), 0)
        text = await read(run)

    assert text == whole[: whole.index(stop)]
    assert run.ending.finish_reason is FinishReason.STOP_SEQUENCE


async def test_same_seed_same_text_whoever_shares_the_batch(start_engine) -> None:
    """A seeded row says the same alone and among others."""
    sampled = tokens(10, temperature=1.0, seed=11)
    async with start_engine() as engine:
        prompt = engine.prompt((), raw="hello")
        alone = await read(engine.submit(prompt, sampled, 0))
        runs = [engine.submit(prompt, tokens(10, temperature=1.0, seed=s), 0) for s in (3, 11, 5)]
        together = await asyncio.gather(*map(read, runs))

    assert together[1] == alone
    assert len(set(together)) == 3


async def test_broken_step_ends_its_rows_only(start_engine) -> None:
    """A fault inside the model ends the rows it hit with INTERNAL; the engine serves on."""
    async with start_engine() as engine:
        prompt = engine.prompt((), raw="hello")
        broken = engine.submit(prompt, tokens(5), 0)
        # A token that the model has no embedding for.
        object.__setattr__(prompt, "tokens", (10**9,))
        with pytest.raises(SelmError) as ended:
            await read(broken)
        healthy = engine.submit(engine.prompt((), raw="hello"), tokens(5), 0)
        await read(healthy)

    assert ended.value.reason == "INTERNAL"
    assert len(healthy.ending.tokens) == 5


async def test_stopping_ends_what_runs_with_draining(start_engine) -> None:
    """Readers learn that the server goes; new work is refused."""
    async with start_engine() as engine:
        run = engine.submit(engine.prompt((), raw="hello"), tokens(1500), 0)
        prompt = engine.prompt((), raw="hello")
    with pytest.raises(SelmError) as ended:
        await read(run)
    with pytest.raises(SelmError) as refused:
        engine.submit(prompt, tokens(5), 0)

    assert (ended.value.reason, refused.value.reason) == ("DRAINING", "DRAINING")


@pytest.mark.parametrize(("owner", "method"), [(RowSampler, "choose"), (Detokenizer, "add")])
async def test_row_that_breaks_within_a_batch_fails_alone(
    start_engine, monkeypatch, owner: type, method: str
) -> None:
    """Sampling or text of one row fails while all decode together: the others say all they had."""
    original, num_calls = getattr(owner, method), Counter[int]()

    def break_first(self: object, *args: object) -> object:
        num_calls[id(self)] += 1
        # The first row to get so far; by then all of them share a batch.
        if num_calls[id(self)] == 50 and not broken:
            broken.append(self)
            raise ValueError("broken")
        return original(self, *args)

    broken: list[object] = []
    monkeypatch.setattr(owner, method, break_first)
    async with start_engine() as engine:
        prompt = engine.prompt((), raw="hello")
        runs = [engine.submit(prompt, tokens(100), 0) for _ in range(3)]
        results = await asyncio.gather(*map(read, runs), return_exceptions=True)

    failed = [result for result in results if isinstance(result, SelmError)]
    assert [error.reason for error in failed] == ["INTERNAL"]


async def test_failed_allocation_ends_that_waiter_only(start_engine, monkeypatch) -> None:
    """Memory that runs out at admission: INTERNAL for one, nothing stays reserved, work goes on."""
    async with start_engine() as engine:
        prompt = engine.prompt((), raw="hello")

        def no_memory(shape: object, capacity: int) -> None:
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr(kv_cache, "RowCache", no_memory)
            broken = engine.submit(prompt, tokens(5), 0)
            with pytest.raises(SelmError) as ended:
                await read(broken)
        reserved = engine.num_reserved_cache_tokens
        healthy = engine.submit(prompt, tokens(5), 0)
        await read(healthy)

    assert (ended.value.reason, reserved) == ("INTERNAL", 0)
    assert len(healthy.ending.tokens) == 5


async def test_dead_thread_is_internal_and_told(start_engine, monkeypatch) -> None:
    """A thread that dies is no shutdown: callers learn INTERNAL, and whoever watches raises."""

    def broken(self: Scheduler) -> None:
        raise ValueError("broken")

    async with start_engine() as engine:
        prompt = engine.prompt((), raw="hello")
        watching = asyncio.create_task(engine.watch())
        monkeypatch.setattr(Scheduler, "next_prefill", broken)
        run = engine.submit(prompt, tokens(5), 0)
        with pytest.raises(SelmError) as ended:
            await read(run)
        with pytest.raises(RuntimeError):
            await watching
        with pytest.raises(SelmError) as refused:
            engine.submit(prompt, tokens(5), 0)

    assert (ended.value.reason, refused.value.reason) == ("INTERNAL", "INTERNAL")


async def test_watching_ends_quietly_with_a_stop(start_engine) -> None:
    """A stop that was asked for is no death."""
    async with start_engine() as engine:
        watching = asyncio.create_task(engine.watch())
        await asyncio.sleep(0)

    await watching
