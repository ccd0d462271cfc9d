"""Calls of ErasureService as its users make them, and what the other services would confirm."""

from dataclasses import dataclass, field
from typing import Any

import grpc

from selm import streams
from selm.api.ops.v1 import erasure_pb2, erasure_service_pb2_grpc
from selm.api.ops.v1 import erasure_service_pb2 as pb
from selm.bus import Bus
from selm.erasure_bus import ErasureStream
from selm.erasures import MEMORY, TRAINER, Receipt, ReceiptState, TaintedRevision
from selm.testing import eventually

COMPLETED = erasure_pb2.Erasure.STATE_COMPLETED
RUNNING = erasure_pb2.Erasure.STATE_RUNNING


@dataclass
class Erasures:
    """A client of one ErasureService, speaking for one tenant."""

    channel: grpc.aio.Channel
    tenant: str
    stub: Any = field(init=False)

    def __post_init__(self) -> None:
        self.stub = erasure_service_pb2_grpc.ErasureServiceStub(self.channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-selm-tenant", self.tenant),)

    async def forget(self, user: str, timeout: float = 10, **fields: Any) -> Any:
        request = pb.ForgetUserRequest(user=user, **fields)
        reply = await self.stub.ForgetUser(request, metadata=self.metadata, timeout=timeout)
        return reply.erasure

    async def get(self, name: str) -> Any:
        request = pb.GetErasureRequest(name=name)
        reply = await self.stub.GetErasure(request, metadata=self.metadata, timeout=10)
        return reply.erasure

    async def list(self, **fields: Any) -> Any:
        request = pb.ListErasuresRequest(**fields)
        return await self.stub.ListErasures(request, metadata=self.metadata, timeout=10)

    def watch(self, name: str) -> Any:
        request = pb.WatchErasureRequest(name=name)
        return self.stub.WatchErasure(request, metadata=self.metadata, timeout=60)

    async def completed(self, name: str) -> Any:
        """The last frame of a watch; reconnects when feedback_svc is gone for a while."""

        async def watched() -> Any:
            try:
                frames = [frame.erasure async for frame in self.watch(name)]
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return None
            return frames[-1]

        return await eventually(watched, timeout_s=60)


def receipts(erasure: Any) -> dict[str, Any]:
    return {receipt.service: receipt for receipt in erasure.receipts}


async def is_hidden(bus: Bus, tenant: str, name: str) -> bool:
    """Whether feedback_svc has purged the user's events."""
    erasure = await ErasureStream(bus).erasure(tenant, name)
    return erasure is not None and erasure.receipt("feedback_svc").state is ReceiptState.HIDDEN


async def confirm_as_others(
    bus: Bus, tenant: str, name: str, *revisions: TaintedRevision, num_memories: int = 0
) -> None:
    """What memory_svc and trainer_svc say once feedback_svc has done its first half."""

    async def hidden() -> bool:
        return await is_hidden(bus, tenant, name)

    await eventually(hidden, timeout_s=30)
    stream = ErasureStream(bus)
    erasure = await stream.erasure(tenant, name)
    assert erasure is not None
    done = ReceiptState.CONFIRMED
    await stream.tell(erasure.order, Receipt(MEMORY, done, num_memories=num_memories))
    await stream.tell(erasure.order, Receipt(TRAINER, done, revisions=revisions))


async def stored(bus: Bus, spec: streams.StreamSpec, *subjects: str) -> int:
    """How many messages a stream holds of these subjects."""
    return len(await bus.read(spec.name, subjects))
