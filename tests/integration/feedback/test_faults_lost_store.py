"""F-25: the broker comes back without what it had acknowledged, or with an old backup of it.

What is lost is lost, and said loudly: nothing lost is served as if it were stored, a repeat of it
is stored anew, and no lesson of it counts as waiting or done.
"""

import asyncio
import shutil
import signal
import urllib.request
import uuid

import grpc

from selm import streams
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.testing import eventually
from tests.feedback_chaos.faulty import feedback_process, names_stored, until_ok

_TALK = "conversations/talk"


class Sayings:
    """Events that may be said again with the same ids."""

    def __init__(self, client, generation: str) -> None:
        self._client = client
        self._generation = generation
        self.ids = [str(uuid.uuid4()) for _ in range(6)]

    async def say(self, number: int):
        """Even ones are ratings, odd ones corrections, each of which becomes a lesson."""
        what = {"conversation": _TALK, "rating": {"value": number, "max_value": 10}}
        if number % 2:
            what = {"generation": self._generation, "correction": {"text": f"Answer {number}."}}
        reply = await until_ok(
            lambda: self._client.create(request_id=self.ids[number], timeout=3, **what)
        )
        return reply.feedback_event

    async def is_unknown(self, name: str) -> bool:
        try:
            await self._client.event(name)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.NOT_FOUND
        return False


async def _num_rewound(service) -> float:
    url = f"http://127.0.0.1:{service.metrics_port}/metrics"
    with await asyncio.to_thread(urllib.request.urlopen, url, timeout=5) as reply:
        lines = reply.read().decode().splitlines()
    name = "selm_feedback_stream_rewound_total{"
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


async def test_an_empty_store_is_noticed_and_nothing_lost_is_served(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """Told by log and metric; lost names are unknown; a repeat is stored, under the same name."""
    peers = peers_on(own_bus)
    async with (
        feedback_process(tmp_path, nats_server.options.port) as service,
        client_of(service.target, tenant) as client,
    ):
        sayings = Sayings(client, await peers.generate())
        before = [await sayings.say(number) for number in range(4)]
        assert await _num_rewound(service) == 0
        await asyncio.to_thread(nats_server.stop)
        shutil.rmtree(nats_server.options.data_dir / "jetstream")
        await asyncio.to_thread(nats_server.start)
        await asyncio.to_thread(service.wait_until_serving)

        for event in before:
            await eventually(lambda event=event: sayings.is_unknown(event.name))
        assert await _num_rewound(service) >= 1
        lesson = await client.refusal(client.lesson(before[1].lesson))
        assert lesson.code is grpc.StatusCode.NOT_FOUND
        assert sum(stats.waiting_lessons for stats in await client.stats()) == 0
        assert await names_stored(peers) == []
        assert '"event": "stream_rewound"' in service.log_text()

        again = await sayings.say(2)
        new = await sayings.say(4)
        assert again.name == before[2].name
        assert await names_stored(peers) == [again.name, new.name]
        assert (await client.event(again.name)).sequence == again.sequence


async def test_an_old_backup_is_noticed_and_what_is_younger_is_not_served(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """The same stream, some events ago: older ones stay as they were, younger ones are unknown."""
    peers = peers_on(own_bus)
    store, backup = nats_server.options.data_dir / "jetstream", tmp_path / "backup"
    async with (
        feedback_process(tmp_path, nats_server.options.port) as service,
        client_of(service.target, tenant) as client,
    ):
        sayings = Sayings(client, await peers.generate())
        kept = [await sayings.say(number) for number in range(2)]
        await peers.remember(await client.lesson(kept[1].lesson))
        await eventually(lambda: _is_remembered(client, kept[1].lesson))
        await asyncio.to_thread(nats_server.stop)
        shutil.copytree(store, backup)
        await asyncio.to_thread(nats_server.start)
        lost = [await sayings.say(number) for number in range(2, 4)]
        await asyncio.to_thread(nats_server.stop)
        shutil.rmtree(store)
        shutil.copytree(backup, store)
        await asyncio.to_thread(nats_server.start)

        for event in lost:
            await eventually(lambda event=event: sayings.is_unknown(event.name))
        assert await _num_rewound(service) >= 1
        assert [await client.event(event.name) for event in kept] == kept
        again = [await sayings.say(number) for number in range(4)]
        assert again[:2] == kept
        assert [event.name for event in again] == [event.name for event in kept + lost]
        assert await names_stored(peers) == [event.name for event in again]
        assert await _is_remembered(client, kept[1].lesson)
        assert not await _is_remembered(client, again[3].lesson)


async def _is_remembered(client, name: str) -> bool:
    return (await client.lesson(name)).state == Lesson.STATE_REMEMBERED


async def test_an_old_backup_that_grew_past_the_loss_is_noticed_too(
    client_of, nats_server, own_bus, peers_on, tenant, tmp_path
):
    """Another replica wrote on before this one came back: the same places hold other events."""
    generation = await peers_on(own_bus).generate()
    store, backup = nats_server.options.data_dir / "jetstream", tmp_path / "backup"
    port = nats_server.options.port
    await asyncio.to_thread(nats_server.stop)
    shutil.copytree(store, backup)
    await asyncio.to_thread(nats_server.start)
    async with (
        feedback_process(tmp_path, port) as sleeper,
        client_of(sleeper.target, tenant) as client,
    ):
        sayings = Sayings(client, generation)
        lost = [await sayings.say(number) for number in (2, 4)]
        await own_bus.wait_connected()
        await eventually(lambda: _is_sent_to_its_readers(own_bus, lost[1].sequence))
        sleeper.send(signal.SIGSTOP)
        try:
            await asyncio.to_thread(nats_server.stop)
            shutil.rmtree(store)
            shutil.copytree(backup, store)
            await asyncio.to_thread(nats_server.start)
            async with (
                feedback_process(tmp_path, port) as awake,
                client_of(awake.target, tenant) as other,
            ):
                others = Sayings(other, generation)
                new = [await others.say(number) for number in (1, 3, 5)]
        finally:
            sleeper.send(signal.SIGCONT)
        for event in lost:
            await eventually(lambda event=event: sayings.is_unknown(event.name))
        for event in new:
            assert await until_ok(lambda event=event: client.event(event.name)) == event


async def _is_sent_to_its_readers(bus, sequence: int) -> bool:
    """Whoever follows the stream has this message, if only in the buffer of its socket."""
    readers = await bus.connection.jetstream().consumers_info(streams.FEEDBACK.name)
    return bool(readers) and all(one.delivered.stream_seq >= sequence for one in readers)
