"""Requests of ReviewService in the words of core."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from feedback_svc import reviewing
from feedback_svc.core import RequestKey
from feedback_svc.signals import Correction
from feedback_svc.wire.checks import (
    check_name,
    check_reason,
    cursor_of,
    page_size_of,
    request_key,
)
from feedback_svc.wire.create import check_correction
from selm import names, pages
from selm.api.feedback.v1 import feedback_event_pb2, review_pb2
from selm.api.feedback.v1 import review_service_pb2 as pb
from selm.auth import Principal
from selm.errors import Violations

_UPDATABLE = ("trust", "trust_fixed", "blocked")


@dataclass(frozen=True)
class ItemPage:
    """One page of review items."""

    wanted: reviewing.ItemFilter
    size: int
    after: tuple[int, str]
    digest: str

    def token_after(self, item: review_pb2.ReviewItem) -> str:
        return pages.encode(
            self.digest, f"{item.feedback_event.sequence}/{item.feedback_event.name}"
        )


@dataclass(frozen=True)
class ConflictPage:
    """One page of conflicts."""

    wanted: reviewing.ConflictFilter
    size: int
    before: tuple[datetime, str] | None
    digest: str

    def token_after(self, conflict: reviewing.Conflict) -> str:
        return pages.encode(self.digest, f"{conflict.create_time.isoformat()}|{conflict.name}")


@dataclass(frozen=True)
class AuthorPage:
    """One page of authors."""

    size: int
    after: tuple[int, str] | None
    digest: str

    def token_after(self, author: reviewing.Author) -> str:
        return pages.encode(self.digest, f"{-author.num_rejected}/{author.subject}")


def parse_list_items(request: pb.ListReviewItemsRequest, tenant: str) -> ItemPage:
    found = Violations()
    states = _known(found, "states", request.states, review_pb2.ReviewItem.State.values())
    kinds = feedback_event_pb2.Finding.Kind
    findings = _known(found, "findings", request.findings, kinds.values())
    check_name(found, names.ADAPTER, request.adapter, "adapter")
    size = page_size_of(found, request.page_size)
    found.raise_if_any()
    digest = _digest("review_items", tenant, request)
    sequence, _, name = cursor_of(request.page_token, digest).partition("/")
    wanted = reviewing.ItemFilter(
        states=frozenset(map(reviewing.ItemState, states)),
        findings=frozenset(
            kinds.Name(kinds.ValueType(kind)).removeprefix("KIND_") for kind in findings
        ),
        adapter=request.adapter,
    )
    return ItemPage(wanted, size, (int(sequence or 0), name), digest)


def parse_verdict(request: Any, reviewer: Principal) -> reviewing.Verdict:
    """Of Approve and RejectReviewItem."""
    found = Violations()
    is_rejection = isinstance(request, pb.RejectReviewItemRequest)
    check_reason(found, "reason", request.reason, required=is_rejection)
    verdict = _verdict(found, names.REVIEW_ITEM, request, reviewer)
    found.raise_if_any()
    return verdict


def parse_amendment(
    request: pb.AmendReviewItemRequest, reviewer: Principal
) -> tuple[reviewing.Verdict, Correction]:
    found = Violations()
    check_reason(found, "reason", request.reason)
    check_correction(request.correction, found, "correction")
    verdict = _verdict(found, names.REVIEW_ITEM, request, reviewer)
    found.raise_if_any()
    said = request.correction
    return verdict, Correction(said.text, said.question, tuple(said.paraphrases))


def parse_list_conflicts(request: pb.ListConflictsRequest, tenant: str) -> ConflictPage:
    found = Violations()
    states = _known(found, "states", request.states, review_pb2.Conflict.State.values())
    check_name(found, names.ADAPTER, request.adapter, "adapter")
    size = page_size_of(found, request.page_size)
    found.raise_if_any()
    digest = _digest("conflicts", tenant, request)
    time, _, name = cursor_of(request.page_token, digest).partition("|")
    before = (datetime.fromisoformat(time), name) if time else None
    wanted = reviewing.ConflictFilter(
        frozenset(map(reviewing.ConflictState, states)), request.adapter
    )
    return ConflictPage(wanted, size, before, digest)


def parse_resolution(
    request: pb.ResolveConflictRequest, reviewer: Principal
) -> tuple[reviewing.Verdict, str]:
    """The verdict, and the claim that wins."""
    found = Violations()
    found.check(bool(request.claim_id), "claim_id", "required")
    check_reason(found, "reason", request.reason)
    verdict = _verdict(found, names.CONFLICT, request, reviewer)
    found.raise_if_any()
    return verdict, request.claim_id


def parse_author_name(name: str) -> str:
    """The subject of an author's name."""
    found = Violations()
    check_name(found, names.AUTHOR, name, "name", required=True)
    found.raise_if_any()
    return name.removeprefix("authors/")


def parse_list_authors(request: pb.ListAuthorsRequest, tenant: str) -> AuthorPage:
    found = Violations()
    size = page_size_of(found, request.page_size)
    found.raise_if_any()
    digest = _digest("authors", tenant, request)
    negated, _, subject = cursor_of(request.page_token, digest).partition("/")
    return AuthorPage(size, (int(negated), subject) if negated else None, digest)


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
    subject = author.name.removeprefix("authors/")
    return reviewing.AuthorChange(subject, etag=author.etag, **values), key


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
    found: Violations, pattern: str, request: Any, reviewer: Principal
) -> reviewing.Verdict:
    check_name(found, pattern, request.name, "name", required=True)
    key = _key(found, request)
    return reviewing.Verdict(reviewer, request.name, request.reason, key)


def _key(found: Violations, request: Any) -> RequestKey | None:
    asked = type(request)()
    asked.CopyFrom(request)
    asked.ClearField("request_id")
    method = type(request).__name__.removesuffix("Request")
    content = asked.SerializeToString(deterministic=True)
    return request_key(method, request.request_id, content, found)


def _known(found: Violations, field: str, values: Any, published: Any) -> list[int]:
    known = [value for value in values if value and value in published]
    found.check(len(known) == len(values), field, "must be published values")
    return known


def _digest(what: str, tenant: str, request: Message) -> str:
    """Of the query alone: a page may have another size than the one before."""
    query = type(request)()
    query.CopyFrom(request)
    for field in ("page_size", "page_token"):
        query.ClearField(field)
    return pages.digest(what, tenant, query.SerializeToString(deterministic=True).hex())
