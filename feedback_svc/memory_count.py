"""Asks memory_svc how many memories of a user would go. The only caller of it in this service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc

from selm.api.memory.v1 import memory_admin_service_pb2 as pb
from selm.api.memory.v1.memory_admin_service_pb2_grpc import MemoryAdminServiceStub
from selm.auth import TENANT_HEADER
from selm.erasure_events import trouble_of
from selm.erasures import MEMORY, Receipt, ReceiptState
from selm.errors import from_rpc_error

_TIMEOUT_S = 5.0


class GrpcMemoryCount:
    """Port forgetting.MemoryCount on a gRPC channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = MemoryAdminServiceStub(channel)

    async def count(self, tenant: str, user: str) -> Receipt:
        """A receipt that says why, if memory_svc does not answer: the rest can be counted."""
        request = pb.PurgeMemoriesRequest(parent=user, force=False)
        try:
            reply = await self._stub.PurgeMemories(
                request, timeout=_TIMEOUT_S, metadata=((TENANT_HEADER, tenant),)
            )
        except grpc.aio.AioRpcError as error:
            trouble = trouble_of(from_rpc_error(error), datetime.now(UTC))
            return Receipt(MEMORY, ReceiptState.FAILED, trouble=trouble)
        return Receipt(MEMORY, num_memories=reply.purge_count)


@asynccontextmanager
async def open_memory_count(target: str) -> AsyncIterator[GrpcMemoryCount]:
    """A channel that connects when it is first used."""
    async with grpc.aio.insecure_channel(target) as channel:
        yield GrpcMemoryCount(channel)
