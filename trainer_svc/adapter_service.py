"""AdapterService: parse, call, render."""

from typing import Any

from selm import names, pages
from selm.api.adapter.v1 import adapter_service_pb2 as pb
from selm.api.adapter.v1.adapter_service_pb2_grpc import AdapterServiceServicer
from selm.auth import current_principal
from selm.errors import adapter_not_found
from trainer_svc import render, wire
from trainer_svc.core import Adapter
from trainer_svc.registry.adapters import AdapterRegistry
from trainer_svc.registry.revisions import RevisionRegistry
from trainer_svc.training.desk import Desk


class AdapterServicer(AdapterServiceServicer):
    """Adapters, revisions and aliases."""

    def __init__(self, adapters: AdapterRegistry, revisions: RevisionRegistry, desk: Desk) -> None:
        self._adapters = adapters
        self._revisions = revisions
        self._desk = desk

    async def GetAdapter(self, request: pb.GetAdapterRequest, context: Any) -> Any:
        adapter_id = wire.parse_name(names.ADAPTER, request.name)
        found = await self._adapters.get(current_principal().tenant, adapter_id)
        return pb.GetAdapterResponse(adapter=render.adapter(found))

    async def ListAdapters(self, request: pb.ListAdaptersRequest, context: Any) -> Any:
        tenant = current_principal().tenant
        page = wire.parse_list_adapters(request, tenant)
        found = await self._adapters.list_all(tenant)
        adapters, cursor = wire.cut(found, page, lambda adapter: adapter.adapter_id)
        return pb.ListAdaptersResponse(
            adapters=[render.adapter(adapter) for adapter in adapters],
            next_page_token=pages.encode(page.query, cursor) if cursor else "",
        )

    async def GetAdapterRevision(self, request: pb.GetAdapterRevisionRequest, context: Any) -> Any:
        tenant = current_principal().tenant
        reference = wire.parse_revision_name(request.name)
        adapter = await self._adapters.get(tenant, reference.adapter_id)
        revision_id = await self._resolve(adapter, reference)
        found = await self._revisions.get(tenant, reference.adapter_id, revision_id)
        return pb.GetAdapterRevisionResponse(adapter_revision=render.revision(found, adapter))

    async def ListAdapterRevisions(
        self, request: pb.ListAdapterRevisionsRequest, context: Any
    ) -> Any:
        tenant = current_principal().tenant
        page, adapter_id, states = wire.parse_list_revisions(request, tenant)
        owners = {a.adapter_id: a for a in await self._adapters.list_all(tenant)}
        if adapter_id is not None and adapter_id not in owners:
            raise adapter_not_found(request.parent)
        found = [
            revision
            for revision in await self._revisions.list_all(tenant, adapter_id)
            if not states or revision.state in states
        ]
        revisions, cursor = wire.cut(found, page, lambda r: f"{r.adapter_id}/{r.revision_id}")
        return pb.ListAdapterRevisionsResponse(
            adapter_revisions=[render.revision(r, owners.get(r.adapter_id)) for r in revisions],
            next_page_token=pages.encode(page.query, cursor) if cursor else "",
        )

    async def AliasAdapterRevision(
        self, request: pb.AliasAdapterRevisionRequest, context: Any
    ) -> Any:
        principal = current_principal()
        wish = wire.parse_alias(request, principal.subject)
        adapter = await self._adapters.get(principal.tenant, wish.revision.adapter_id)
        revision_id = await self._resolve(adapter, wish.revision)
        alias = await self._desk.move(
            principal.tenant, adapter.adapter_id, revision_id, wish.move, force=wish.force
        )
        return pb.AliasAdapterRevisionResponse(alias=render.alias(alias))

    async def RollbackAdapter(self, request: pb.RollbackAdapterRequest, context: Any) -> Any:
        principal = current_principal()
        wish = wire.parse_rollback(request, principal.subject)
        alias = await self._desk.roll_back(
            principal.tenant, wish.adapter_id, wish.target_revision_id, wish.move
        )
        return pb.RollbackAdapterResponse(alias=render.alias(alias))

    async def _resolve(self, adapter: Adapter, reference: wire.RevisionRef) -> str:
        """Id of the revision meant, by id, alias or digest."""
        if reference.sha256:
            return await self._revisions.id_of_digest(
                adapter.tenant, adapter.adapter_id, reference.sha256
            )
        if not reference.alias_id:
            return reference.revision_id
        alias = adapter.alias(reference.alias_id)
        if alias is None:
            raise adapter_not_found(names.revision_name(adapter.adapter_id, reference.alias_id))
        return alias.revision_id
