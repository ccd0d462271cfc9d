"""Deadlines: the caller's is known to handlers, and no unary call is without one."""

import asyncio

import grpc
import pytest

from selm import deadline
from selm.api.ops.v1 import server_service_pb2 as messages
from selm.errors import SelmError, from_rpc_error


def _reply(text: str) -> messages.GetServerInfoResponse:
    return messages.GetServerInfoResponse(server_info=messages.ServerInfo(instance=text))


async def _failure(call) -> SelmError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_the_callers_deadline_is_known_to_the_handler(serving) -> None:
    """Handlers pass on what is left of the deadline."""
    seen = []

    async def handler(request, context):
        seen.append(deadline.remaining_s())
        return _reply("")

    async with serving(Handler=handler, shared={"default_deadline_s": 7}) as probe:
        await probe.unary("Handler", timeout=5)
        await probe.unary("Handler")

        assert 0 < seen[0] < 6 < seen[1] <= 7


async def test_a_unary_call_without_deadline_gets_the_servers(serving) -> None:
    """No call may hang for ever because its client forgot a deadline; streams may be long."""

    async def hang(request, context):
        await asyncio.Event().wait()

    async def slow_stream(request, context):
        assert deadline.remaining_s() is None
        yield _reply("")

    async with serving(Hang=hang, Slow=slow_stream, shared={"default_deadline_s": 0.05}) as probe:
        error = await _failure(probe.unary("Hang"))

        assert (error.reason, error.metadata) == ("DEADLINE_TOO_SHORT", {"limit": "0.05s"})
        assert [1 async for _ in probe.stream("Slow")] == [1]


def test_outside_of_a_call_only_the_cap_limits() -> None:
    """Background work has no caller who stops waiting."""

    assert deadline.remaining_s() is None
    assert deadline.remaining_s(at_most=0.3) == 0.3


async def test_a_cap_never_lengthens_what_is_left() -> None:
    """A call to another service gets the smaller of its own budget and the caller's."""
    async with deadline.limit(5):
        assert 0 < (deadline.remaining_s(at_most=60) or 0) <= 5
        assert deadline.remaining_s(at_most=0.1) == 0.1


async def test_a_timeout_of_the_handlers_own_is_not_the_deadline() -> None:
    """Only the deadline's own expiry is reported as the deadline."""
    with pytest.raises(TimeoutError):
        async with deadline.limit(60):
            raise TimeoutError("of something else")
