"""`selm review`: what waits for a reviewer, what authors do not agree on, and the authors."""

from collections.abc import Callable
from typing import Any

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from selm import names
from selm.api.feedback.v1 import feedback_event_pb2, review_pb2
from selm.api.feedback.v1 import review_service_pb2 as pb
from selm.cli_output import (
    OUTPUT,
    Output,
    ask,
    ask_patiently,
    enum_value,
    enum_word,
    enum_words,
    print_fields,
    print_messages,
    when,
)
from selm.client_channel import new_request_id

ITEM = typer.Argument(help="reviewItems/{review_item}, or the id of its event.")
CONFLICT = typer.Argument(help="conflicts/{conflict}.")
REASON = typer.Option("", "--reason", "-r", help="Kept for audit.")
LIMIT = typer.Option(50, min=1, max=500, help="At most this many.")

review = typer.Typer(help="What may be learned: a reviewer's desk.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Registers these commands."""
    app.add_typer(review, name="review")


@review.command("ls")
def list_items(
    context: typer.Context,
    state: str = typer.Option("pending", help=f"{enum_words(review_pb2.ReviewItem.State)}."),
    adapter: str = typer.Option("", help="adapters/{adapter}; empty is any."),
    limit: int = LIMIT,
    output: Output = OUTPUT,
) -> None:
    """List what was withheld, oldest first, with what the screen found."""
    request = pb.ListReviewItemsRequest(
        states=[enum_value(review_pb2.ReviewItem.State, state)], adapter=adapter, page_size=limit
    )

    reply = ask(context, lambda selm: selm.feedback.review.ListReviewItems(request))
    print_messages(
        output,
        reply.review_items,
        {
            "item": lambda i: i.name,
            "since": lambda i: when(i.create_time),
            "author": lambda i: i.feedback_event.author,
            "findings": lambda i: _findings(i.feedback_event),
            "says": lambda i: _said(i.feedback_event),
        },
    )


@review.command("get")
def show_item(context: typer.Context, item: str = ITEM, output: Output = OUTPUT) -> None:
    """Show what was withheld and why, and what was decided."""
    request = pb.GetReviewItemRequest(name=_item_name(item))
    reply = ask(context, lambda selm: selm.feedback.review.GetReviewItem(request))
    _print_item(output, reply.review_item)


@review.command()
def approve(
    context: typer.Context, item: str = ITEM, reason: str = REASON, output: Output = OUTPUT
) -> None:
    """Let it count as it was sent."""
    request = pb.ApproveReviewItemRequest(
        name=_item_name(item), reason=reason, request_id=new_request_id()
    )
    _decide(context, output, lambda desk: desk.ApproveReviewItem(request))


@review.command()
def reject(
    context: typer.Context,
    item: str = ITEM,
    reason: str = typer.Argument(help="Why; the lesson shows it."),
    output: Output = OUTPUT,
) -> None:
    """Keep it from counting."""
    request = pb.RejectReviewItemRequest(
        name=_item_name(item), reason=reason, request_id=new_request_id()
    )
    _decide(context, output, lambda desk: desk.RejectReviewItem(request))


@review.command()
def amend(
    context: typer.Context,
    item: str = ITEM,
    answer: str = typer.Argument(help="The right answer."),
    question: str = typer.Option("", help="Another question than the one that was sent."),
    reason: str = REASON,
    output: Output = OUTPUT,
) -> None:
    """Let it count with another answer; what was sent is kept for audit."""
    correction = feedback_event_pb2.Correction(text=answer, question=question)
    request = pb.AmendReviewItemRequest(
        name=_item_name(item), correction=correction, reason=reason, request_id=new_request_id()
    )
    _decide(context, output, lambda desk: desk.AmendReviewItem(request))


@review.command()
def conflicts(
    context: typer.Context,
    resolved: bool = typer.Option(False, help="Those that were resolved."),
    adapter: str = typer.Option("", help="adapters/{adapter}; empty is any."),
    limit: int = LIMIT,
    output: Output = OUTPUT,
) -> None:
    """List what authors do not agree on, newest first."""
    state = review_pb2.Conflict.STATE_RESOLVED if resolved else review_pb2.Conflict.STATE_OPEN
    request = pb.ListConflictsRequest(states=[state], adapter=adapter, page_size=limit)

    reply = ask(context, lambda selm: selm.feedback.review.ListConflicts(request))
    print_messages(
        output,
        reply.conflicts,
        {
            "conflict": lambda c: c.name,
            "question": lambda c: c.question,
            "claims": _claims,
            "resolved by": lambda c: c.resolver,
        },
    )


@review.command("conflict")
def show_conflict(
    context: typer.Context, conflict: str = CONFLICT, output: Output = OUTPUT
) -> None:
    """Show what authors say instead of each other, and who has the most weight."""
    request = pb.GetConflictRequest(name=conflict)
    reply = ask(context, lambda selm: selm.feedback.review.GetConflict(request))
    _print_conflict(output, reply.conflict)


@review.command()
def resolve(
    context: typer.Context,
    conflict: str = CONFLICT,
    claim: str = typer.Argument(help="Id of the claim that wins."),
    reason: str = REASON,
    output: Output = OUTPUT,
) -> None:
    """Pick the claim that is right; the lessons of the others end."""
    request = pb.ResolveConflictRequest(
        name=conflict, claim_id=claim, reason=reason, request_id=new_request_id()
    )

    reply = ask_patiently(context, lambda selm: selm.feedback.review.ResolveConflict(request))
    _print_conflict(output, reply.conflict)


@review.command()
def authors(context: typer.Context, limit: int = LIMIT, output: Output = OUTPUT) -> None:
    """List who gives feedback, most rejected first."""
    request = pb.ListAuthorsRequest(page_size=limit)

    reply = ask(context, lambda selm: selm.feedback.review.ListAuthors(request))
    print_messages(
        output,
        reply.authors,
        {
            "author": lambda a: a.name,
            "trust": _trust,
            "blocked": lambda a: "yes" if a.blocked else "",
            "events that count": lambda a: str(a.accepted_count),
            "rejected": lambda a: str(a.rejected_count),
            "conflicts lost": lambda a: str(a.conflict_count),
        },
    )


@review.command()
def author(
    context: typer.Context,
    name: str = typer.Argument(help="authors/{author}, or the id alone."),
    trust: float | None = typer.Option(None, min=0, max=1, help="What his word weighs."),
    fixed: bool | None = typer.Option(None, "--fixed/--moving", help="Whether reviews move it."),
    blocked: bool | None = typer.Option(None, "--block/--unblock", help="Withhold all he sends."),
    output: Output = OUTPUT,
) -> None:
    """Change how far an author is trusted."""
    given = {"trust": trust, "trust_fixed": fixed, "blocked": blocked}
    changed = [field for field, value in given.items() if value is not None]
    if not changed:
        raise typer.BadParameter("give --trust, --fixed, --moving, --block or --unblock")
    wanted = review_pb2.Author(
        name=name if name.startswith("authors/") else names.author_name(name),
        trust=trust or 0.0,
        trust_fixed=bool(fixed),
        blocked=bool(blocked),
    )
    request = pb.UpdateAuthorRequest(
        author=wanted, update_mask=FieldMask(paths=changed), request_id=new_request_id()
    )

    reply = ask_patiently(context, lambda selm: selm.feedback.review.UpdateAuthor(request))
    found = reply.author
    fields = {
        "author": found.name,
        "trust": _trust(found),
        "blocked": "yes" if found.blocked else "",
        "rejected": str(found.rejected_count),
    }
    print_fields(output, found, fields)


def _item_name(item: str) -> str:
    if item.startswith("reviewItems/"):
        return item
    return names.review_item_name(item.removeprefix("feedbackEvents/"))


def _decide(context: typer.Context, output: Output, call: Callable[[Any], Any]) -> None:
    reply = ask_patiently(context, lambda selm: call(selm.feedback.review))
    _print_item(output, reply.review_item)


def _print_item(output: Output, item: review_pb2.ReviewItem) -> None:
    event = item.feedback_event
    fields = {
        "item": item.name,
        "state": enum_word(item, "state"),
        "author": event.author,
        "said": _said(event),
        "findings": _findings(event),
        "conflict": item.conflict,
        "counts": item.amended_correction.text,
        "lesson": event.lesson,
        "reviewer": item.reviewer,
        "reason": item.reason,
    }
    print_fields(output, item, fields)


def _print_conflict(output: Output, conflict: review_pb2.Conflict) -> None:
    fields = {
        "conflict": conflict.name,
        "state": enum_word(conflict, "state"),
        "question": conflict.question,
        "claims": _claims(conflict),
        "resolved by": conflict.resolver,
    }
    print_fields(output, conflict, fields)


def _findings(event: feedback_event_pb2.FeedbackEvent) -> str:
    if not event.findings:
        return event.failure.message
    return "; ".join(f"{enum_word(found, 'kind')}: {found.detail}" for found in event.findings)


def _said(event: feedback_event_pb2.FeedbackEvent) -> str:
    if event.WhichOneof("signal") == "correction":
        return f"{event.correction.question} -> {event.correction.text}"
    return event.preference.chosen_text or enum_word(event, "kind")


def _claims(conflict: review_pb2.Conflict) -> str:
    return "; ".join(
        f"{claim.claim_id}{' (won)' if claim.winner else ''}: {claim.answer}"
        f" ({claim.author_count} authors, weight {claim.weight:.2f})"
        for claim in conflict.claims
    )


def _trust(author: review_pb2.Author) -> str:
    return f"{author.trust:.2f}" + (" fixed" if author.trust_fixed else "")
