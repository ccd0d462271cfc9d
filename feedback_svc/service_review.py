"""The servicer of review: parse, call, render. No logic, no broker."""

from typing import Any

from feedback_svc import reviewing
from feedback_svc.render.pages import fitting
from feedback_svc.render.review import render_author, render_conflict, render_item
from feedback_svc.wire import review as wire
from feedback_svc.wire.checks import parse_name
from selm import names
from selm.api.feedback.v1 import review_service_pb2 as pb
from selm.api.feedback.v1 import review_service_pb2_grpc
from selm.auth import Principal, current_principal
from selm.errors import SelmError

REVIEW = "feedback.review"


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
        tenant = _reviewer().tenant
        item = await self._items.get(tenant, parse_name(names.REVIEW_ITEM, request.name))
        return pb.GetReviewItemResponse(review_item=render_item(item))

    async def ListReviewItems(self, request: Any, context: Any) -> Any:
        tenant = _reviewer().tenant
        page = wire.parse_list_items(request, tenant)
        found, total = await self._items.list(tenant, page.wanted, page.after, page.size + 1)
        items = fitting(map(render_item, found[: page.size]))
        token = "" if len(items) == len(found) else page.token_after(items[-1])
        return pb.ListReviewItemsResponse(
            review_items=items, next_page_token=token, total_size=total
        )

    async def ApproveReviewItem(self, request: Any, context: Any) -> Any:
        item = await self._items.approve(wire.parse_verdict(request, _reviewer()))
        return pb.ApproveReviewItemResponse(review_item=render_item(item))

    async def RejectReviewItem(self, request: Any, context: Any) -> Any:
        item = await self._items.reject(wire.parse_verdict(request, _reviewer()))
        return pb.RejectReviewItemResponse(review_item=render_item(item))

    async def AmendReviewItem(self, request: Any, context: Any) -> Any:
        verdict, correction = wire.parse_amendment(request, _reviewer())
        item = await self._items.amend(verdict, correction)
        return pb.AmendReviewItemResponse(review_item=render_item(item))

    async def GetConflict(self, request: Any, context: Any) -> Any:
        tenant = _reviewer().tenant
        conflict = await self._conflicts.get(tenant, parse_name(names.CONFLICT, request.name))
        return pb.GetConflictResponse(conflict=render_conflict(conflict))

    async def ListConflicts(self, request: Any, context: Any) -> Any:
        tenant = _reviewer().tenant
        page = wire.parse_list_conflicts(request, tenant)
        found = await self._conflicts.list(tenant, page.wanted, page.before, page.size + 1)
        conflicts = fitting(map(render_conflict, found[: page.size]))
        is_last = len(conflicts) == len(found)
        token = "" if is_last else page.token_after(found[len(conflicts) - 1])
        return pb.ListConflictsResponse(conflicts=conflicts, next_page_token=token)

    async def ResolveConflict(self, request: Any, context: Any) -> Any:
        verdict, claim_id = wire.parse_resolution(request, _reviewer())
        conflict = await self._conflicts.resolve(verdict, claim_id)
        return pb.ResolveConflictResponse(conflict=render_conflict(conflict))

    async def GetAuthor(self, request: Any, context: Any) -> Any:
        tenant = _reviewer().tenant
        author = await self._authors.get(tenant, wire.parse_author_name(request.name))
        return pb.GetAuthorResponse(author=render_author(author))

    async def ListAuthors(self, request: Any, context: Any) -> Any:
        tenant = _reviewer().tenant
        page = wire.parse_list_authors(request, tenant)
        found = await self._authors.list(tenant, page.after, page.size + 1)
        is_last = len(found) <= page.size
        token = "" if is_last else page.token_after(found[page.size - 1])
        authors = [render_author(author) for author in found[: page.size]]
        return pb.ListAuthorsResponse(authors=authors, next_page_token=token)

    async def UpdateAuthor(self, request: Any, context: Any) -> Any:
        tenant = _reviewer().tenant
        change, key = wire.parse_update_author(request)
        author = await self._authors.update(tenant, change, key)
        return pb.UpdateAuthorResponse(author=render_author(author))


def _reviewer() -> Principal:
    """The caller, who may review."""
    caller = current_principal()
    if not caller.has_scope(REVIEW):
        raise SelmError(
            "SCOPE_MISSING",
            f"the credential lacks scope {REVIEW}",
            metadata={"scope": REVIEW},
        )
    return caller
