"""Review items, conflicts and authors as they are answered."""

from dataclasses import replace

from feedback_svc import reviewing
from feedback_svc.render.events import render_correction, render_event
from feedback_svc.signals import Correction
from selm import names
from selm.api.feedback.v1 import review_pb2 as pb


def render_item(item: reviewing.ReviewItem) -> pb.ReviewItem:
    """The item; its event says what was sent, also where a reviewer put something else."""
    record = item.record
    ids = names.parse(names.FEEDBACK_EVENT, record.name) or ("",)
    sent = record if record.original is None else replace(record, signal=record.original)
    rendered = pb.ReviewItem(
        name=names.review_item_name(ids[0]),
        feedback_event=render_event(sent),
        state=pb.ReviewItem.State.ValueType(item.state),
        conflict=item.conflict,
    )
    rendered.create_time.FromDatetime(record.create_time)
    if item.state is reviewing.ItemState.AMENDED and isinstance(record.signal, Correction):
        rendered.amended_correction.CopyFrom(render_correction(record.signal))
    if item.decision is not None:
        rendered.reviewer = item.decision.decider
        rendered.reason = item.decision.reason
        rendered.decide_time.FromDatetime(item.decision.time)
    return rendered


def render_conflict(conflict: reviewing.Conflict) -> pb.Conflict:
    rendered = pb.Conflict(
        name=conflict.name,
        state=pb.Conflict.State.ValueType(conflict.state),
        adapter=conflict.adapter,
        subject_key=conflict.subject_key,
        question=conflict.question,
        claims=[_claim(claim) for claim in conflict.claims],
        quorum_weight=conflict.quorum_weight,
        resolver=conflict.resolver,
    )
    rendered.create_time.FromDatetime(conflict.create_time)
    rendered.update_time.FromDatetime(conflict.update_time)
    return rendered


def render_author(author: reviewing.Author) -> pb.Author:
    rendered = pb.Author(
        name=names.author_name(author.subject),
        trust=author.trust,
        trust_fixed=author.trust_fixed,
        blocked=author.blocked,
        accepted_count=author.num_accepted,
        rejected_count=author.num_rejected,
        conflict_count=author.num_conflicts_lost,
        etag=author.etag,
    )
    if author.update_time is not None:
        rendered.update_time.FromDatetime(author.update_time)
    return rendered


def _claim(claim: reviewing.ConflictClaim) -> pb.Claim:
    return pb.Claim(
        claim_id=claim.claim_id,
        answer=claim.answer,
        lessons=claim.lessons,
        author_count=claim.num_authors,
        weight=claim.weight,
        winner=claim.is_winner,
    )
