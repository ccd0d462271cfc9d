"""The servicer of review: parse, call, render. No logic, no broker."""

from typing import Any

from feedback_svc import reviewing
from feedback_svc.access import guarded
from feedback_svc.render.review import render_author, render_conflict, render_item
from feedback_svc.wire import review as wire
from feedback_svc.wire.checks import parse_name
from selm import names
from selm.api.feedback.v1 import review_service_pb2 as pb
from selm.api.feedback.v1 import review_service_pb2_grpc
from selm.auth import current_principal


@guarded
class ReviewService(review_service_pb2_grpc.ReviewServiceServicer):
    """People deciding what may be learned."""

    def __init__(
        self,
        items: reviewing.Reviewing,
        conflicts: reviewing.Conflicts,
        authors: reviewing.Authors,
    ) -> None:
        self._items = items
        self._conflicts = conflicts
        self._authors = authors

    async def GetReviewItem(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        item = await self._items.get(tenant, parse_name(names.REVIEW_ITEM, request.name))
        return pb.GetReviewItemResponse(review_item=render_item(item))

    async def ListReviewItems(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        page = wire.parse_list_items(request, tenant)
        start = page.start or (0, "")
        found, total = await self._items.list(tenant, page.wanted, start, page.limit)
        items, token = page.of(found, render_item)
        return pb.ListReviewItemsResponse(
            review_items=items, next_page_token=token, total_size=total
        )

    async def ApproveReviewItem(self, request: Any, context: Any) -> Any:
        item = await self._items.approve(wire.parse_verdict(request, current_principal()))
        return pb.ApproveReviewItemResponse(review_item=render_item(item))

    async def RejectReviewItem(self, request: Any, context: Any) -> Any:
        item = await self._items.reject(wire.parse_verdict(request, current_principal()))
        return pb.RejectReviewItemResponse(review_item=render_item(item))

    async def AmendReviewItem(self, request: Any, context: Any) -> Any:
        verdict, correction = wire.parse_amendment(request, current_principal())
        item = await self._items.amend(verdict, correction)
        return pb.AmendReviewItemResponse(review_item=render_item(item))

    async def GetConflict(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        conflict = await self._conflicts.get(tenant, parse_name(names.CONFLICT, request.name))
        return pb.GetConflictResponse(conflict=render_conflict(conflict))

    async def ListConflicts(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        page = wire.parse_list_conflicts(request, tenant)
        found = await self._conflicts.list(tenant, page.wanted, page.start, page.limit)
        conflicts, token = page.of(found, render_conflict)
        return pb.ListConflictsResponse(conflicts=conflicts, next_page_token=token)

    async def ResolveConflict(self, request: Any, context: Any) -> Any:
        verdict, claim_id = wire.parse_resolution(request, current_principal())
        conflict = await self._conflicts.resolve(verdict, claim_id)
        return pb.ResolveConflictResponse(conflict=render_conflict(conflict))

    async def GetAuthor(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        author = await self._authors.get(tenant, wire.parse_author_name(request.name))
        return pb.GetAuthorResponse(author=render_author(author))

    async def ListAuthors(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        page = wire.parse_list_authors(request, tenant)
        found = await self._authors.list(tenant, page.start, page.limit)
        authors, token = page.of(found, render_author)
        return pb.ListAuthorsResponse(authors=authors, next_page_token=token)

    async def UpdateAuthor(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        change, key = wire.parse_update_author(request)
        author = await self._authors.update(tenant, change, key)
        return pb.UpdateAuthorResponse(author=render_author(author))
