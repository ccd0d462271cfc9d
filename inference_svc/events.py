"""The bus: what this service announces and follows, and the registry as it reads it.

Nothing here is waited for by a generation. Without a broker everything retries in the background.
"""

import asyncio
from collections import deque
from datetime import UTC

import structlog

from inference_svc import metrics
from inference_svc.core import Record
from inference_svc.generations import Generations
from inference_svc.ports import AliasTarget
from inference_svc.render import Renderer, duration
from inference_svc.revisions import AliasMove, Revision, ScopeMode
from selm import names, streams
from selm.api.adapter.v1 import adapter_pb2, adapter_revision_pb2, rollout_pb2
from selm.api.event.v1 import adapter_event_pb2, inference_event_pb2
from selm.bus import Bus, CaughtUp, Delivery
from selm.errors import SelmError, to_failure
from selm.testing import failpoint

log = structlog.get_logger()

RETRY_S = 0.5
FLUSH_S = 2.0
# For a broker that answers but whose aliases do not load.
LONGEST_START_S = 60.0


class GenerationPublisher:
    """Publishes finished generations one by one; when too many wait, the oldest is dropped."""

    def __init__(self, bus: Bus, renderer: Renderer, max_waiting: int) -> None:
        self._bus = bus
        self._renderer = renderer
        self._waiting: deque[Record] = deque(maxlen=max_waiting)
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def publish(self, record: Record) -> None:
        """Never blocks: the caller's answer is already out."""
        metrics.observe(record)
        if len(self._waiting) == self._waiting.maxlen:
            metrics.UNPUBLISHED.inc()
            log.warning("generation_dropped", max_waiting=self._waiting.maxlen)
        self._waiting.append(record)
        self._idle.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Publishes until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                record = self._waiting.popleft()
                await self._publish(record)
            self._idle.set()

    async def flush(self) -> None:
        """Gives what waits a last moment; for the end of the process."""
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._idle.wait()
        except TimeoutError:
            log.warning("generations_not_flushed", num_waiting=len(self._waiting))

    async def _publish(self, record: Record) -> None:
        generation_id = record.started.generation_id
        subject = streams.generation_finished(record.ask.tenant, generation_id)
        event = self._renderer.event(record)
        while True:
            try:
                await self._bus.publish(subject, event, message_id=generation_id)
                return
            except SelmError as error:
                if error.reason != "BUS_UNAVAILABLE":
                    log.error("generation_not_published", reason=error.reason)
                    return
            # Later ones pile up meanwhile, within their bound.
            await asyncio.sleep(RETRY_S)


class AliasFollower:
    """Follows stream ADAPTERS: its newest message per alias is the present truth."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._caught_up = asyncio.Event()
        # Latched: a broker that appears later must not make a serving replica unready.
        self.is_ready = False
        self.is_registry_read = False

    async def wait(self, without_bus_s: float) -> None:
        """Until every alias known now was tried once; a broker that is away is not waited for."""
        try:
            async with asyncio.timeout(without_bus_s):
                await self._caught_up.wait()
        except TimeoutError:
            if self._bus.is_connected:
                await self._wait_for_loads()
        self.is_ready = True

    async def _wait_for_loads(self) -> None:
        try:
            async with asyncio.timeout(LONGEST_START_S):
                await self._caught_up.wait()
        except TimeoutError:
            log.warning("started_without_all_adapters")

    async def run(self, adapters: AliasTarget) -> None:
        """Until cancelled, across restarts of the broker."""
        subjects = streams.ADAPTERS.subjects
        async for item in self._bus.replay("ADAPTERS", subjects, last_per_subject=True):
            if isinstance(item, CaughtUp):
                adapters.registry_read()
                self.is_registry_read = True
                await adapters.settled()
                self._caught_up.set()
                continue
            failpoint("inference.on_alias")
            try:
                adapters.follow(_alias_move(item))
            except SelmError as error:
                # One unreadable announcement must not stop the others.
                log.error("alias_not_understood", subject=item.subject, error=str(error))


def _alias_move(delivery: Delivery) -> AliasMove:
    event = delivery.parse(adapter_event_pb2.AdapterRevisionAliased)
    tenant = streams.tenant_of(delivery.subject)
    ids = names.parse(names.ALIAS, event.alias.name)
    if ids is None or not event.HasField("adapter_revision"):
        raise SelmError("INTERNAL", f"{delivery.subject}: names no alias and revision")
    is_always = event.alias.scope_mode == adapter_pb2.SCOPE_MODE_ALWAYS
    return AliasMove(
        tenant=tenant,
        adapter=names.adapter_name(ids[0]),
        alias_id=ids[1],
        revision=_revision(tenant, event.adapter_revision),
        scope_mode=ScopeMode.ALWAYS if is_always else ScopeMode.SCOPED,
        epoch=event.alias.epoch,
    )


def _revision(tenant: str, wire: adapter_revision_pb2.AdapterRevision) -> Revision:
    manifest, artifact = wire.manifest, wire.artifact
    newest = manifest.newest_lesson_time
    return Revision(
        tenant=tenant,
        name=wire.name,
        sha256=wire.sha256,
        base_sha256=manifest.base_sha256,
        weights_sha256=manifest.weights_sha256,
        config_sha256=manifest.config_sha256,
        lessons_sha256=manifest.lessons_sha256,
        artifact_uri=artifact.uri,
        artifact_sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        newest_lesson_time=newest.ToDatetime(tzinfo=UTC)
        if manifest.HasField("newest_lesson_time")
        else None,
    )


class Acknowledger:
    """Tells the trainer that this replica serves or refuses what an alias points to."""

    def __init__(self, bus: Bus, renderer: Renderer, instance: str) -> None:
        self._bus = bus
        self._renderer = renderer
        self._token = streams.replica_token(instance)

    async def tell(self, move: AliasMove, error: SelmError | None, seconds: float) -> None:
        """Returns once the broker has it."""
        state = rollout_pb2.ReplicaAcknowledgement.STATE_SERVING
        if error is not None:
            state = rollout_pb2.ReplicaAcknowledgement.STATE_REFUSED
        acknowledgement = rollout_pb2.ReplicaAcknowledgement(
            replica=self._renderer.replica,
            state=state,
            load_duration=duration(seconds),
            failure=to_failure(error) if error is not None else None,
        )
        acknowledgement.acknowledge_time.GetCurrentTime()
        event = adapter_event_pb2.AdapterRevisionAcknowledged(
            adapter_revision=move.revision.name, acknowledgement=acknowledgement
        )
        adapter_id = move.adapter.removeprefix("adapters/")
        subject = streams.adapter_acknowledged(move.tenant, adapter_id, self._token)
        message_id = f"{subject}.{move.alias_id}.{move.epoch}.{state}.{names.new_id()}"
        while True:
            try:
                await self._bus.publish(subject, event, message_id=message_id)
                return
            except SelmError as failure:
                log.info("acknowledgement_waits", reason=failure.reason)
            await asyncio.sleep(RETRY_S)


class AbortSignals:
    """Aborts across replicas: whoever runs the generation ends it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def signal(self, tenant: str, generation_id: str) -> None:
        """Best effort: without a broker only this replica's own generations can be ended."""
        name = names.generation_name(generation_id)
        request = inference_event_pb2.GenerationAbortRequested(generation=name)
        request.event_time.GetCurrentTime()
        try:
            await self._bus.signal(streams.generation_abort(tenant, generation_id), request)
        except SelmError as error:
            log.warning("abort_not_signalled", reason=error.reason)

    async def run(self, generations: Generations) -> None:
        async def on_abort(delivery: Delivery) -> None:
            request = delivery.parse(inference_event_pb2.GenerationAbortRequested)
            ids = names.parse(names.GENERATION, request.generation)
            if ids is not None:
                generations.abort(streams.tenant_of(delivery.subject), ids[0])

        await self._bus.subscribe_signals("selm.generation.abort.>", on_abort)


class RegistryReader:
    """Revisions as trainer_svc recorded them; read only."""

    def __init__(self, bus: Bus) -> None:
        self._revisions = bus.kv("revisions")

    async def by_name(self, tenant: str, name: str) -> Revision | None:
        ids = names.parse(names.REVISION, name)
        if ids is None:
            return None
        entry = await self._revisions.get(f"{tenant}.{ids[0]}.{ids[1]}")
        if entry is None:
            return None
        wire = adapter_revision_pb2.AdapterRevision.FromString(entry.value)
        return _revision(tenant, wire)

    async def by_digest(self, tenant: str, sha256: str) -> Revision | None:
        entry = await self._revisions.get(f"{tenant}.sha256.{sha256}")
        return None if entry is None else await self.by_name(tenant, entry.value.decode())
