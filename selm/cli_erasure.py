"""`selm forget`: erase a user everywhere, follow it service by service, and show the receipt."""

import typer
from rich.text import Text

from selm.api.ops.v1 import erasure_service_pb2 as pb
from selm.api.ops.v1.erasure_pb2 import Erasure, ErasureReceipt
from selm.cli_output import (
    OUTPUT,
    Output,
    enum_word,
    err,
    out,
    print_fields,
    print_json,
    session,
    when,
)
from selm.client import SelmClient
from selm.client_channel import new_request_id

_COUNTS = (
    ("memory_count", "memories"),
    ("feedback_count", "feedback events"),
    ("generation_count", "generations"),
    ("dataset_count", "datasets"),
)


def add_to(app: typer.Typer) -> None:
    """Registers this command."""
    app.command()(forget)


def forget(
    context: typer.Context,
    user: str = typer.Argument(help="users/{user}."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Count what would go, change nothing."),
    reason: str = typer.Option("", help="Kept with the erasure; put nothing personal here."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask: it cannot be undone."),
    wait: bool = typer.Option(True, help="Follow it until every service has confirmed."),
    output: Output = OUTPUT,
) -> None:
    """Forget a user: memories, feedback, generations, and what was trained on them."""
    if not dry_run and not yes:
        typer.confirm(f"Forget {user} for good?", abort=True, err=True)
    request = pb.ForgetUserRequest(
        user=user, reason=reason, validate_only=dry_run, request_id=new_request_id()
    )

    async def ask(selm: SelmClient) -> Erasure:
        asked = await selm.patience.through(lambda: selm.feedback.erasures.ForgetUser(request))
        erasure: Erasure = asked.erasure
        return erasure if dry_run or not wait else await _followed(selm, erasure, output)

    erasure = session(context).run(ask)
    if output is Output.JSON:
        if dry_run or not wait:
            print_json(erasure)
        return
    if dry_run:
        out.print("would go:")
    _print_receipt(erasure)


async def _followed(selm: SelmClient, erasure: Erasure, output: Output) -> Erasure:
    """The erasure at its end, through broken connections; a line for each step of a service."""
    told: dict[str, str] = {}
    request = pb.WatchErasureRequest(name=erasure.name)
    frames = selm.patience.watching(lambda: aiter(selm.feedback.erasures.WatchErasure(request)))
    async for frame in frames:
        erasure = frame.erasure
        if output is Output.JSON:
            print_json(erasure)
            continue
        for receipt in erasure.receipts:
            line = f"{receipt.service:13} {_standing(receipt)}"
            if told.get(receipt.service) != line:
                err.print(Text(line), soft_wrap=True)
                told[receipt.service] = line
    return erasure


def _print_receipt(erasure: Erasure) -> None:
    fields = {
        "erasure": erasure.name,
        "user": erasure.user,
        "state": enum_word(erasure, "state") if erasure.name else "",
        # A dry run has no name: nothing was asked for yet.
        "asked": when(erasure.create_time) if erasure.name else "",
        "completed": when(erasure.end_time),
    }
    fields |= {receipt.service: _standing(receipt) for receipt in erasure.receipts}
    print_fields(Output.TABLE, erasure, fields)
    for receipt in erasure.receipts:
        for revision in receipt.revisions:
            aliases = ", ".join(revision.aliases)
            serves = f", still aliased by {aliases}" if aliases else ""
            text = f"tainted: {revision.adapter_revision}, {revision.example_count} examples"
            out.print(Text(f"{text}{serves}"), soft_wrap=True)
            if revision.sha256:
                out.print(Text(f"         sha256 {revision.sha256}"), soft_wrap=True)


def _standing(receipt: ErasureReceipt) -> str:
    """How far a service is, with what it counted."""
    counts = [f"{n} {word}" for name, word in _COUNTS if (n := getattr(receipt, name))]
    if receipt.revisions:
        counts.append(f"{len(receipt.revisions)} tainted revisions")
    words = [enum_word(receipt, "state"), ", ".join(counts)]
    if receipt.HasField("failure"):
        words.append(f"{enum_word(receipt.failure, 'reason')}: {receipt.failure.message}")
    return "  ".join(word for word in words if word)
