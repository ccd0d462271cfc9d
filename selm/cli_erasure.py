"""`selm forget`, `selm erasures`: erase a user everywhere, follow it, and show the receipt."""

import typer
from rich.text import Text

from selm.api.ops.v1 import erasure_service_pb2 as pb
from selm.api.ops.v1.erasure_pb2 import Erasure, ErasureReceipt
from selm.cli_output import (
    OUTPUT,
    Output,
    ask,
    enum_value,
    enum_word,
    enum_words,
    err,
    explain,
    out,
    print_fields,
    print_json,
    print_messages,
    session,
    when,
)
from selm.client import SelmClient
from selm.client_channel import new_request_id
from selm.errors import SelmError
from selm.names import erasure_name

_COUNTS = (
    ("memory_count", "memories"),
    ("feedback_count", "feedback events"),
    ("generation_count", "generations"),
    ("dataset_count", "datasets"),
)

NAME = typer.Argument(help="erasures/{erasure}, or its id.")

erasures = typer.Typer(help="What was to be forgotten, and how far it is.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Registers this command."""
    app.command()(forget)
    app.add_typer(erasures, name="erasures")


def forget(
    context: typer.Context,
    user: str = typer.Argument(help="users/{user}."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Count what would go, change nothing."),
    reason: str = typer.Option("", help="Kept with the erasure; put nothing personal here."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask: it cannot be undone."),
    wait: bool = typer.Option(True, help="Follow it until every service has confirmed."),
    output: Output = OUTPUT,
) -> None:
    """Forget a user: memories, feedback, generations, and what was trained on them.

    Exit code 0 with --dry-run only if every service has counted.
    """
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
    if dry_run and output is Output.TABLE:
        out.print("would go:")
    # As JSON every step was printed that was followed, the last one too.
    if output is Output.TABLE or dry_run or not wait:
        _print_receipt(output, erasure)
    if dry_run and (uncounted := [r for r in erasure.receipts if r.HasField("failure")]):
        raise typer.Exit(max(_explain_uncounted(receipt) for receipt in uncounted))


@erasures.command("ls")
def list_erasures(
    context: typer.Context,
    state: list[str] = typer.Option([], help=f"{enum_words(Erasure.State)}; may be repeated."),
    limit: int = typer.Option(20, min=1, max=500, help="Newest this many."),
    output: Output = OUTPUT,
) -> None:
    """List erasures, newest first."""
    states = [enum_value(Erasure.State, word) for word in state]
    request = pb.ListErasuresRequest(page_size=limit, states=states)
    reply = ask(context, lambda selm: selm.feedback.erasures.ListErasures(request))
    print_messages(
        output,
        reply.erasures,
        {
            "asked": lambda e: when(e.create_time),
            "erasure": lambda e: e.name,
            "state": lambda e: enum_word(e, "state"),
            "user": lambda e: e.user,
            "by": lambda e: e.requester,
            "reason": lambda e: e.reason,
        },
    )


@erasures.command("get")
def show(context: typer.Context, name: str = NAME, output: Output = OUTPUT) -> None:
    """Show an erasure with what each service did."""
    request = pb.GetErasureRequest(name=_name(name))
    reply = ask(context, lambda selm: selm.feedback.erasures.GetErasure(request))
    _print_receipt(output, reply.erasure)


@erasures.command("watch")
def watch(context: typer.Context, name: str = NAME, output: Output = OUTPUT) -> None:
    """Follow an erasure until every service has confirmed."""
    asked = Erasure(name=_name(name))
    erasure = session(context).run(lambda selm: _followed(selm, asked, output))
    if output is Output.TABLE:
        _print_receipt(output, erasure)


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


def _explain_uncounted(receipt: ErasureReceipt) -> int:
    failure = receipt.failure
    text = f"what would go from {receipt.service} is not counted: {failure.message}"
    return explain(SelmError(enum_word(failure, "reason"), text))


def _print_receipt(output: Output, erasure: Erasure) -> None:
    fields = {
        "erasure": erasure.name,
        "user": erasure.user,
        "state": enum_word(erasure, "state") if erasure.name else "",
        # A dry run has no name: nothing was asked for yet.
        "asked": when(erasure.create_time) if erasure.name else "",
        "completed": when(erasure.end_time),
    }
    fields |= {receipt.service: _standing(receipt) for receipt in erasure.receipts}
    print_fields(output, erasure, fields)
    for receipt in erasure.receipts if output is Output.TABLE else ():
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


def _name(name: str) -> str:
    return name if name.startswith("erasures/") else erasure_name(name)
