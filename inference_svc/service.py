"""The servicers: parse, call, render."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from inference_svc.generations import Generations
from inference_svc.ports import Adapters
from inference_svc.render import Renderer
from inference_svc.wire import AskParser, parse_generation, parse_page_size
from selm import pages
from selm.api.inference.v1 import (
    inference_service_pb2,
    inference_service_pb2_grpc,
    replica_service_pb2,
    replica_service_pb2_grpc,
)
from selm.auth import current_principal

# Asks the other replicas to end a generation: tenant, generation id.
SignalAbort = Callable[[str, str], Awaitable[None]]


class InferenceServicer(inference_service_pb2_grpc.InferenceServiceServicer):
    """Answers."""

    def __init__(
        self,
        generations: Generations,
        parser: AskParser,
        renderer: Renderer,
        signal_abort: SignalAbort,
    ) -> None:
        self._generations = generations
        self._parser = parser
        self._renderer = renderer
        self._signal_abort = signal_abort

    async def Generate(self, request: Any, context: Any) -> Any:
        ask = self._parser.parse(request, current_principal())
        record = await self._generations.answer(ask)
        generation = self._renderer.generation(record, has_content=True)
        return inference_service_pb2.GenerateResponse(generation=generation)

    async def GenerateStream(self, request: Any, context: Any) -> AsyncGenerator[Any, None]:
        ask = self._parser.parse(request, current_principal())
        async with aclosing(self._generations.stream(ask)) as frames:
            async for frame in frames:
                yield self._renderer.frame(frame)

    async def Abort(self, request: Any, context: Any) -> Any:
        generation_id = parse_generation(request.generation)
        tenant = current_principal().tenant
        aborted = self._generations.abort(tenant, generation_id)
        if not aborted:
            await self._signal_abort(tenant, generation_id)
        return inference_service_pb2.AbortResponse(aborted=aborted)

    async def GetModel(self, request: Any, context: Any) -> Any:
        return inference_service_pb2.GetModelResponse(model=self._renderer.model())


class ReplicaServicer(replica_service_pb2_grpc.ReplicaServiceServicer):
    """The adapters of this replica."""

    def __init__(self, adapters: Adapters, renderer: Renderer) -> None:
        self._adapters = adapters
        self._renderer = renderer

    async def ListLoadedAdapters(self, request: Any, context: Any) -> Any:
        page_size = parse_page_size(request)
        tenant = current_principal().tenant
        query = pages.digest("ListLoadedAdapters", tenant, sorted(request.states))
        start = int(pages.decode(request.page_token, query)) if request.page_token else 0
        held = self._renderer.loaded_adapters(self._adapters.held(tenant))
        found = [a for a in held if not request.states or a.state in request.states]
        end = start + page_size
        return replica_service_pb2.ListLoadedAdaptersResponse(
            replica=self._renderer.replica,
            loaded_adapters=found[start:end],
            next_page_token=pages.encode(query, str(end)) if end < len(found) else "",
        )
