"""Requests of ReviewService in the words of core."""

import math
from datetime import datetime
from typing import Any

from feedback_svc import reviewing
from feedback_svc.core import RequestKey
from feedback_svc.paging import BY_CREATE_TIME, Order, Page
from feedback_svc.signals import Correction
from feedback_svc.wire.checks import check_name, parse_reason, published, request_key
from feedback_svc.wire.create import check_correction
from feedback_svc.wire.page import parse_page
from selm import names
from selm.api.feedback.v1 import feedback_event_pb2, review_pb2
from selm.api.feedback.v1 import review_service_pb2 as pb
from selm.auth import Principal
from selm.errors import Violations

_UPDATABLE = ("trust", "trust_fixed", "blocked")
_BY_EVENT = Order(lambda item: (item.feedback_event.sequence, item.feedback_event.name), int)
_BY_REJECTIONS = Order(lambda author: (-author.rejected_count, _subject(author.name)), int)


def parse_list_items(
    request: pb.ListReviewItemsRequest, tenant: str
) -> Page[reviewing.ItemFilter, int]:
    found = Violations()
    states = published(found, "states", request.states, review_pb2.ReviewItem.State)
    kinds = feedback_event_pb2.Finding.Kind
    findings = published(found, "findings", request.findings, kinds)
    check_name(found, names.ADAPTER, request.adapter, "adapter")
    wanted = reviewing.ItemFilter(
        states=frozenset(map(reviewing.ItemState, states)),
        findings=frozenset(
            kinds.Name(kinds.ValueType(kind)).removeprefix("KIND_") for kind in findings
        ),
        adapter=request.adapter,
    )
    return parse_page(found, request, tenant, wanted, _BY_EVENT)


def parse_verdict(request: Any, reviewer: Principal) -> reviewing.Verdict:
    """Of Approve and RejectReviewItem."""
    found = Violations()
    is_rejection = isinstance(request, pb.RejectReviewItemRequest)
    verdict = _verdict(found, names.REVIEW_ITEM, request, reviewer, needs_reason=is_rejection)
    found.raise_if_any()
    return verdict


def parse_amendment(
    request: pb.AmendReviewItemRequest, reviewer: Principal
) -> tuple[reviewing.Verdict, Correction]:
    found = Violations()
    check_correction(request.correction, found, "correction")
    verdict = _verdict(found, names.REVIEW_ITEM, request, reviewer)
    found.raise_if_any()
    said = request.correction
    return verdict, Correction(said.text, said.question, tuple(said.paraphrases))


def parse_list_conflicts(
    request: pb.ListConflictsRequest, tenant: str
) -> Page[reviewing.ConflictFilter, datetime]:
    found = Violations()
    states = published(found, "states", request.states, review_pb2.Conflict.State)
    check_name(found, names.ADAPTER, request.adapter, "adapter")
    wanted = reviewing.ConflictFilter(
        frozenset(map(reviewing.ConflictState, states)), request.adapter
    )
    return parse_page(found, request, tenant, wanted, BY_CREATE_TIME)


def parse_resolution(
    request: pb.ResolveConflictRequest, reviewer: Principal
) -> tuple[reviewing.Verdict, str]:
    """The verdict, and the claim that wins."""
    found = Violations()
    found.check(bool(request.claim_id), "claim_id", "required")
    verdict = _verdict(found, names.CONFLICT, request, reviewer)
    found.raise_if_any()
    return verdict, request.claim_id


def parse_author_name(name: str) -> str:
    """The subject of an author's name."""
    found = Violations()
    check_name(found, names.AUTHOR, name, "name", required=True)
    found.raise_if_any()
    return _subject(name)


def parse_list_authors(request: pb.ListAuthorsRequest, tenant: str) -> Page[None, int]:
    return parse_page(Violations(), request, tenant, None, _BY_REJECTIONS)


def parse_update_author(
    request: pb.UpdateAuthorRequest,
) -> tuple[reviewing.AuthorChange, RequestKey | None]:
    found, author = Violations(), request.author
    check_name(found, names.AUTHOR, author.name, "author.name", required=True)
    wanted = _fields_of(found, request)
    is_share = math.isfinite(author.trust) and 0 <= author.trust <= 1
    found.check(is_share, "author.trust", "must be a number from 0 to 1")
    key = _key(found, request)
    found.raise_if_any()
    values = {field: getattr(author, field) for field in wanted}
    return reviewing.AuthorChange(_subject(author.name), etag=author.etag, **values), key


def _subject(author: str) -> str:
    return author.removeprefix("authors/")


def _fields_of(found: Violations, request: pb.UpdateAuthorRequest) -> set[str]:
    paths = list(request.update_mask.paths)
    if paths == ["*"]:
        return set(_UPDATABLE)
    if not paths:
        return {field for field in _UPDATABLE if getattr(request.author, field)}
    for path in paths:
        is_known = path in (*_UPDATABLE, "etag")
        found.check(is_known, "update_mask", f"may hold {', '.join(_UPDATABLE)}, not {path[:64]}")
    return set(paths) & set(_UPDATABLE)


def _verdict(
    found: Violations,
    pattern: str,
    request: Any,
    reviewer: Principal,
    *,
    needs_reason: bool = False,
) -> reviewing.Verdict:
    check_name(found, pattern, request.name, "name", required=True)
    reason = parse_reason(found, "reason", request.reason, required=needs_reason)
    key = _key(found, request)
    return reviewing.Verdict(reviewer, request.name, reason, key)


def _key(found: Violations, request: Any) -> RequestKey | None:
    asked = type(request)()
    asked.CopyFrom(request)
    asked.ClearField("request_id")
    method = type(request).__name__.removesuffix("Request")
    content = asked.SerializeToString(deterministic=True)
    return request_key(method, request.request_id, content, found)
