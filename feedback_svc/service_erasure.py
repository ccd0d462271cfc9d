"""The servicer of erasures: parse, call, render. No logic, no broker."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from feedback_svc.access import guarded
from feedback_svc.forgetting import ErasurePage, Forgetting
from feedback_svc.render.erasure import render_erasure
from feedback_svc.wire.checks import parse_name
from feedback_svc.wire.erasure import parse_forget, parse_list
from selm import names
from selm.api.ops.v1 import erasure_service_pb2 as pb
from selm.api.ops.v1 import erasure_service_pb2_grpc
from selm.auth import current_principal


@guarded
class ErasureService(erasure_service_pb2_grpc.ErasureServiceServicer):
    """The right to be forgotten."""

    def __init__(self, forgetting: Forgetting) -> None:
        self._forgetting = forgetting

    async def ForgetUser(self, request: Any, context: Any) -> Any:
        wish, key = parse_forget(request)
        caller = current_principal()
        if request.validate_only:
            erasure = await self._forgetting.preview(caller.tenant, caller.subject, wish)
        else:
            erasure = await self._forgetting.forget(caller.tenant, caller.subject, wish, key)
        return pb.ForgetUserResponse(erasure=render_erasure(erasure))

    async def GetErasure(self, request: Any, context: Any) -> Any:
        name = parse_name(names.ERASURE, request.name)
        erasure = await self._forgetting.get(current_principal().tenant, name)
        return pb.GetErasureResponse(erasure=render_erasure(erasure))

    async def ListErasures(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        page = parse_list(request, tenant)
        wanted = ErasurePage(page.limit, page.start, page.wanted)
        found = await self._forgetting.list(tenant, wanted)
        erasures, token = page.of(found, render_erasure)
        return pb.ListErasuresResponse(erasures=erasures, next_page_token=token)

    async def WatchErasure(self, request: Any, context: Any) -> AsyncIterator[Any]:
        name = parse_name(names.ERASURE, request.name)
        watching = self._forgetting.watch(current_principal().tenant, name)
        async with aclosing(watching) as frames:
            async for erasure in frames:
                yield pb.WatchErasureResponse(erasure=render_erasure(erasure))
