"""What surrounds every RPC, seen from a client of a real server."""

import asyncio
import io
import json
from contextlib import contextmanager

import grpc
import pytest
from prometheus_client import REGISTRY

from selm import log
from selm.api.ops.v1 import server_service_pb2 as messages
from selm.auth import current_principal
from selm.errors import SelmError, from_rpc_error, not_found
from selm.settings import SharedSettings

PROBE = "selm.api.probe.v1.ProbeService"


def _reply(text: str) -> messages.GetServerInfoResponse:
    return messages.GetServerInfoResponse(server_info=messages.ServerInfo(instance=text))


@contextmanager
def _logged():
    stream = io.StringIO()
    log.configure_logging("probe_svc", SharedSettings(log_format="json"), stream)
    lines: list[dict[str, object]] = []
    yield lines
    lines += [json.loads(line) for line in stream.getvalue().splitlines()]


async def _failure(call) -> SelmError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return from_rpc_error(caught.value)


async def ok(request, context):
    return _reply("fine")


async def count(request, context):
    for number in range(3):
        yield _reply(str(number))


async def forever(request, context):
    yield _reply("first")
    await asyncio.Event().wait()


async def test_the_callers_request_id_comes_back_in_trailers(serving) -> None:
    """A caller finds its own id in the answer, of streams and of failures too."""

    async def fail(request, context):
        raise not_found("lessons/1")

    async with serving(Ok=ok, Count=count, Fail=fail) as probe:
        metadata = (("x-request-id", "abc-1"),)
        answered = probe.unary("Ok", metadata=metadata)
        assert dict(await answered.trailing_metadata())["x-request-id"] == "abc-1"
        streamed = probe.stream("Count", metadata=metadata)
        assert len([response async for response in streamed]) == 3
        assert dict(await streamed.trailing_metadata())["x-request-id"] == "abc-1"
        failed = probe.unary("Fail", metadata=metadata)
        assert (await _failure(failed)).reason == "RESOURCE_NOT_FOUND"
        assert dict(await failed.trailing_metadata())["x-request-id"] == "abc-1"


async def test_an_unprintable_request_id_is_replaced(serving) -> None:
    """What a caller sends must not reach the log as it likes."""
    async with serving(Ok=ok) as probe:
        call = probe.unary("Ok", metadata=(("x-request-id", "a b " + "x" * 200),))
        trailers = dict(await call.trailing_metadata())

        assert len(trailers["x-request-id"]) == 36


async def test_each_rpc_is_one_canonical_line_however_it_ends(serving) -> None:
    """Answered, streamed, refused, failed: each has exactly one line with its code."""

    async def refuse(request, context):
        raise SelmError("STATE_CONFLICT", "no")

    async def stream_then_fail(request, context):
        yield _reply("0")
        raise SelmError("DIGEST_MISMATCH", "bytes")

    with _logged() as lines:
        async with serving(Ok=ok, Count=count, Refuse=refuse, Torn=stream_then_fail) as probe:
            await probe.unary("Ok", metadata=(("x-selm-tenant", "acme"),))
            assert [r.server_info.instance async for r in probe.stream("Count")] == ["0", "1", "2"]
            await _failure(probe.unary("Refuse"))
            await _failure(probe.stream("Torn"))
    rpc_lines = [line for line in lines if line["event"] == "rpc"]

    assert [(line["rpc"], line["code"], line.get("reason")) for line in rpc_lines] == [
        (f"{PROBE}/Ok", "OK", None),
        (f"{PROBE}/Count", "OK", None),
        (f"{PROBE}/Refuse", "FAILED_PRECONDITION", "STATE_CONFLICT"),
        (f"{PROBE}/Torn", "DATA_LOSS", "DIGEST_MISMATCH"),
    ]
    assert rpc_lines[0]["tenant"] == "acme"
    assert all(line["correlation_id"] and line["duration_ms"] >= 0 for line in rpc_lines)
    assert rpc_lines[3]["level"] == "error"


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_the_text_of_a_bug_stays_in_the_log(serving, kind: str) -> None:
    """An unforeseen exception is INTERNAL with an id to quote, and a traceback in the log only."""

    async def unary(request, context):
        raise ValueError("password is hunter2")

    async def stream(request, context):
        yield _reply("0")
        raise ValueError("password is hunter2")

    with _logged() as lines:
        async with serving(Unary=unary, Stream=stream) as probe:
            error = await _failure(getattr(probe, kind)(kind.capitalize()))

    assert (error.reason, error.code) == ("INTERNAL", grpc.StatusCode.INTERNAL)
    assert "hunter2" not in error.message
    failed = [line for line in lines if line["event"] == "rpc_failed"]
    assert len(failed) == 1
    assert "hunter2" in failed[0]["exception"]
    assert failed[0]["correlation_id"]


async def test_an_error_inside_a_task_group_keeps_its_reason(serving) -> None:
    """A handler may use task groups without thinking of exception groups."""

    async def handler(request, context):
        async def child() -> None:
            raise SelmError("STORE_UNAVAILABLE", "down")

        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    async with serving(Handler=handler) as probe:
        error = await _failure(probe.unary("Handler"))

        assert (error.reason, error.retry_after_s) == ("STORE_UNAVAILABLE", 1.0)


async def test_the_tenant_is_the_one_of_the_metadata(serving) -> None:
    """While authentication is off, x-selm-tenant is taken as it is; without it, `default`."""

    async def who(request, context):
        principal = current_principal()
        return _reply(f"{principal.tenant} {principal.subject}")

    async with serving(Who=who) as probe:
        named = await probe.unary("Who", metadata=(("x-selm-tenant", "acme"),))
        unnamed = await probe.unary("Who")
        refused = await _failure(probe.unary("Who", metadata=(("x-selm-tenant", "A*"),)))

        assert named.server_info.instance == "acme anonymous"
        assert unnamed.server_info.instance == "default anonymous"
        assert refused.metadata == {"fields": "metadata.x-selm-tenant"}


async def test_one_call_too_many_is_refused_while_health_still_answers(serving) -> None:
    """A full server says QUEUE_FULL at once, and is not killed for being busy."""
    async with serving(Forever=forever, Ok=ok, max_in_flight=2) as probe:
        streams = [probe.stream("Forever") for _ in range(2)]
        for stream in streams:
            await stream.read()
        error = await _failure(probe.unary("Ok"))
        health = probe.channel.unary_unary("/grpc.health.v1.Health/Check")

        assert (error.reason, error.retry_after_s) == ("QUEUE_FULL", 1.0)
        assert error.metadata == {"waiting": "2", "limit": "2"}
        assert await health(b"") == b"\x08\x01"
        for stream in streams:
            stream.cancel()


async def test_a_place_is_free_again_after_every_kind_of_end(serving) -> None:
    """Answered, failed and cancelled calls all give their place back."""

    async def fail(request, context):
        raise RuntimeError("bug")

    async with serving(Forever=forever, Ok=ok, Fail=fail, max_in_flight=1) as probe:
        await _failure(probe.unary("Fail"))
        stream = probe.stream("Forever")
        await stream.read()
        stream.cancel()
        while (error := await _maybe(probe.unary("Ok"))) is not None:
            assert error.reason == "QUEUE_FULL"


async def _maybe(call) -> SelmError | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


async def test_cancelling_a_stream_closes_its_handler_at_once(serving) -> None:
    """A caller that leaves frees what its stream held, even between two messages."""
    closed = asyncio.Event()

    async def endless(request, context):
        try:
            while True:
                yield _reply("x" * 10_000)
        finally:
            closed.set()

    with _logged() as lines:
        async with serving(Endless=endless) as probe:
            stream = probe.stream("Endless")
            await stream.read()
            stream.cancel()
            await asyncio.wait_for(closed.wait(), 5)

    assert [line["code"] for line in lines if line["event"] == "rpc"] == ["CANCELLED"]
    assert not [line for line in lines if line["event"] == "rpc_failed"]


async def test_bytes_that_are_no_message_are_an_invalid_field(serving) -> None:
    """Broken input is the caller's fault, said with a reason, and no exception text."""
    async with serving(Ok=ok) as probe:
        call = probe.channel.unary_unary(f"/{PROBE}/Ok")
        error = await _failure(call(b"\xff\xff\xff"))

        assert (error.reason, error.metadata) == ("INVALID_FIELD", {"fields": "request"})


async def test_an_unknown_method_has_a_reason_and_no_metric_of_its_own(serving) -> None:
    """What does not exist is NOT_IMPLEMENTED, and names sent by callers do not become labels."""

    def generated(request, context):
        raise NotImplementedError("Method not implemented!")

    async with serving(Generated=generated) as probe:
        unknown = await _failure(probe.unary("NoSuchMethod"))
        unwritten = await _failure(probe.unary("Generated"))

        assert unknown.reason == unwritten.reason == "NOT_IMPLEMENTED"
        assert unknown.metadata == {"method": f"{PROBE}/NoSuchMethod"}
    labels = {
        sample.labels["method"]
        for metric in REGISTRY.collect()
        if metric.name == "selm_rpc_seconds"
        for sample in metric.samples
    }
    assert "unknown" in labels
    assert not any("NoSuchMethod" in label for label in labels)


async def test_a_peer_that_is_gone_is_unavailable_here_too(serving) -> None:
    """An unanswered call to another service is passed on as PEER_UNAVAILABLE."""

    async def handler(request, context):
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            await channel.unary_unary("/a/b")(b"")

    async with serving(Handler=handler) as probe:
        error = await _failure(probe.unary("Handler"))

        assert (error.reason, error.retry_after_s) == ("PEER_UNAVAILABLE", 1.0)
