"""A running inference service as its callers and neighbours see it."""

import shutil
import uuid
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from selm import names, streams
from selm.api.adapter.v1 import adapter_pb2, adapter_revision_pb2
from selm.api.event.v1 import adapter_event_pb2
from selm.api.inference.v1 import (
    inference_service_pb2,
    inference_service_pb2_grpc,
    input_pb2,
    replica_service_pb2_grpc,
)
from selm.bus import Bus
from selm.settings import SharedSettings
from tests.model_fixtures import PackedAdapter

ADAPTER_ID = "default"


class Service:
    """Stubs of one replica, and the tenant this test acts for."""

    def __init__(
        self, channel: grpc.aio.Channel, shared: SharedSettings, artifacts: Path, tenant: str = ""
    ) -> None:
        self.channel = channel
        self.inference = inference_service_pb2_grpc.InferenceServiceStub(channel)
        self.replica = replica_service_pb2_grpc.ReplicaServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.shared = shared
        self.artifacts = artifacts
        # The server of the session is shared, so each test has a tenant of its own.
        self.tenant = tenant or f"t-{uuid.uuid4().hex[:12]}"
        self.metadata = (("x-selm-tenant", self.tenant),)

    async def generate(self, text: str = "hello", **options: object):
        """The finished generation of one question."""
        response = await self.inference.Generate(
            request(text, **options), metadata=self.metadata, timeout=30
        )
        return response.generation

    def stream(self, text: str = "hello", **options: object):
        """The frames of one question."""
        wire = inference_service_pb2.GenerateStreamRequest()
        wire.MergeFromString(request(text, **options).SerializeToString())
        return self.inference.GenerateStream(wire, metadata=self.metadata)

    async def is_serving(self, name: str = "") -> bool:
        response = await self.health.Check(health_pb2.HealthCheckRequest(service=name))
        return response.status == health_pb2.HealthCheckResponse.SERVING


def request(text: str, **options: object) -> inference_service_pb2.GenerateRequest:
    message = input_pb2.ChatMessage(role=input_pb2.ROLE_USER, text=text)
    return inference_service_pb2.GenerateRequest(
        input=input_pb2.GenerationInput(chat=input_pb2.ChatInput(messages=[message])),
        options=input_pb2.GenerationOptions(**options),
    )


async def rest(call):
    """The remaining frames of a stream whose first ones were read."""
    frames = []
    while (frame := await call.read()) is not grpc.aio.EOF:
        frames.append(frame)
    return frames


def sampling(num_tokens: int, **knobs: object) -> input_pb2.SamplingParams:
    return input_pb2.SamplingParams(max_output_tokens=num_tokens, ignore_end=True, **knobs)


def no_memory() -> input_pb2.MemoryOptions:
    return input_pb2.MemoryOptions(max_use=1)


def wire_revision(packed: PackedAdapter, artifacts: Path) -> adapter_revision_pb2.AdapterRevision:
    """The revision as trainer_svc would announce it; its artifact is in the store."""
    artifacts.mkdir(parents=True, exist_ok=True)
    shutil.copy(packed.archive, artifacts / packed.archive_sha256)
    revision = adapter_revision_pb2.AdapterRevision(
        name=names.revision_name(ADAPTER_ID, packed.identity.revision_id),
        state=adapter_revision_pb2.AdapterRevision.STATE_ACCEPTED,
        sha256=packed.identity.sha256,
        manifest=adapter_revision_pb2.Manifest(
            schema_version=1,
            weights_sha256=packed.identity.weights_sha256,
            config_sha256=packed.identity.config_sha256,
            base_model="models/tiny-llama",
            base_sha256=packed.base_sha256,
            lessons_sha256=packed.lessons_sha256,
        ),
        artifact=adapter_revision_pb2.Artifact(
            uri=f"file://{artifacts}/{packed.archive_sha256}",
            sha256=packed.archive_sha256,
            size_bytes=packed.archive.stat().st_size,
        ),
    )
    revision.manifest.newest_lesson_time.GetCurrentTime()
    return revision


class Registry:
    """Announces as trainer_svc would."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        self._bus = bus
        self._tenant = tenant
        self._epoch = 0

    async def move(
        self,
        revision: adapter_revision_pb2.AdapterRevision,
        mode: int = adapter_pb2.SCOPE_MODE_ALWAYS,
        alias_id: str = "stable",
    ) -> None:
        self._epoch += 1
        event = adapter_event_pb2.AdapterRevisionAliased(
            alias=adapter_pb2.Alias(
                name=names.alias_name(ADAPTER_ID, alias_id),
                adapter_revision=revision.name,
                sha256=revision.sha256,
                scope_mode=mode,
                epoch=self._epoch,
            ),
            adapter_revision=revision,
        )
        subject = streams.adapter_aliased(self._tenant, ADAPTER_ID, alias_id)
        await self._bus.publish(subject, event, message_id=uuid.uuid4().hex)

    async def acknowledgement(self, instance: str, revision: str):
        """The replica's newest word about a revision, or None."""
        subject = streams.adapter_acknowledged(
            self._tenant, ADAPTER_ID, streams.replica_token(instance)
        )
        last = await self._bus.last("ROLLOUTS", subject)
        if last is None:
            return None
        event = last.parse(adapter_event_pb2.AdapterRevisionAcknowledged)
        return event.acknowledgement if event.adapter_revision == revision else None
