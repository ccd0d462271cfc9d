"""The only caller of inference_svc: its base model, and what it answers without memory."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from selm import names
from selm.api.inference.v1 import generation_pb2 as generation
from selm.api.inference.v1 import inference_service_pb2 as pb
from selm.api.inference.v1 import input_pb2 as inputs
from selm.api.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from selm.api.memory.v1.memory_pb2 import MEMORY_USE_NONE
from selm.auth import TENANT_HEADER
from selm.errors import SelmError, from_rpc_error, unavailable
from trainer_svc.core import STABLE
from trainer_svc.ports import Reply

GET_MODEL_TIMEOUT_S = 3.0
ASK_TIMEOUT_S = 30.0
# The gate decides whether the adapter takes part, so memory must be given its time.
MEMORY_TIMEOUT_S = 5


class GrpcInference:
    """Port Inference on a gRPC channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = InferenceServiceStub(channel)

    async def base_sha256(self) -> str:
        """Digest of the base model that is served; PEER_UNAVAILABLE if nobody answers."""
        call = self._stub.GetModel(pb.GetModelRequest(), timeout=GET_MODEL_TIMEOUT_S)
        response = await _answered(call)
        return str(response.model.sha256)

    async def ask(
        self, tenant: str, adapter_id: str, user: str, question: str, max_output_tokens: int
    ) -> Reply:
        """What users would get from the alias `stable`, were there no memory.

        An answer that rambles on past `max_output_tokens` is judged by what it said so far.
        """
        call = self._stub.Generate(
            _request(adapter_id, user, question, max_output_tokens),
            timeout=ASK_TIMEOUT_S,
            metadata=((TENANT_HEADER, tenant),),
        )
        answer = (await _answered(call)).generation
        found = names.parse(names.REVISION, answer.resolution.adapter_revision)
        reason = generation.AdapterReason.Name(answer.resolution.adapter_reason)
        return Reply(
            text=answer.candidates[0].text if answer.candidates else "",
            revision_id=found[1] if found else "",
            is_adapter_applied=answer.resolution.adapter_applied,
            adapter_reason=reason.removeprefix("ADAPTER_REASON_"),
        )


@asynccontextmanager
async def open_inference(target: str) -> AsyncIterator[GrpcInference]:
    """A channel that connects when it is first used, and again after every loss."""
    async with grpc.aio.insecure_channel(target) as channel:
        yield GrpcInference(channel)


def _request(
    adapter_id: str, user: str, question: str, max_output_tokens: int
) -> pb.GenerateRequest:
    message = inputs.ChatMessage(role=inputs.ROLE_USER, text=question)
    memory = inputs.MemoryOptions(max_use=MEMORY_USE_NONE)
    memory.timeout.FromSeconds(MEMORY_TIMEOUT_S)
    options = inputs.GenerationOptions(
        adapter=inputs.AdapterSelector(adapter_revision=names.revision_name(adapter_id, STABLE)),
        sampling_params=inputs.SamplingParams(max_output_tokens=max_output_tokens, temperature=0.0),
        memory_options=memory,
        user=user,
        store=False,
    )
    chat = inputs.ChatInput(messages=[message])
    return pb.GenerateRequest(input=inputs.GenerationInput(chat=chat), options=options)


async def _answered(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            text = f"inference does not answer: {error.details()}"
            raise unavailable("PEER_UNAVAILABLE", text, service="inference") from error
        raise _as_peer_fault(from_rpc_error(error)) from error


def _as_peer_fault(error: SelmError) -> SelmError:
    """Full or still without the adapter: asked again later, like an absent peer."""
    if error.is_retryable or error.reason == "ADAPTER_NOT_FOUND":
        return unavailable("PEER_UNAVAILABLE", f"inference: {error}", service="inference")
    return error
