"""`selm adapters`: adapters, their revisions, and where the aliases point."""

import typer

from selm.api.adapter.v1 import adapter_pb2, adapter_service_pb2
from selm.cli_output import (
    OUTPUT,
    Output,
    ask,
    ask_patiently,
    enum_word,
    print_fields,
    print_messages,
    session,
    when,
)
from selm.client import SelmClient
from selm.client_channel import new_request_id
from selm.names import ADAPTER, DEFAULT_ADAPTER, parse

STABLE = "stable"

adapters = typer.Typer(help="Adapters, revisions and aliases.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Registers these commands."""
    app.add_typer(adapters, name="adapters")


@adapters.command("ls")
def list_adapters(context: typer.Context, output: Output = OUTPUT) -> None:
    """List adapters and where their aliases point."""
    request = adapter_service_pb2.ListAdaptersRequest()
    reply = ask(context, lambda selm: selm.trainer.adapters.ListAdapters(request))
    print_messages(
        output,
        reply.adapters,
        {
            "adapter": lambda a: a.name,
            "base model": lambda a: a.base_model,
            "aliases": lambda a: ", ".join(_alias(alias) for alias in a.aliases),
            "updated": lambda a: when(a.update_time),
        },
    )


@adapters.command("show")
def show(
    context: typer.Context,
    name: str = typer.Argument(
        DEFAULT_ADAPTER, help="adapters/{adapter}, or a revision or alias of it."
    ),
    output: Output = OUTPUT,
) -> None:
    """Show an adapter with its revisions, or one revision with its manifest."""
    if parse(ADAPTER, name):
        _show_adapter(context, name, output)
    else:
        _show_revision(context, name, output)


@adapters.command("rollback")
def rollback(
    context: typer.Context,
    name: str = typer.Argument(DEFAULT_ADAPTER, help="adapters/{adapter}."),
    alias: str = typer.Option(STABLE, help="Alias to take back."),
    reason: str = typer.Option("", help="Kept with the move."),
    output: Output = OUTPUT,
) -> None:
    """Take an alias back to the revision before; its lessons return to memory."""
    moved = session(context).run(lambda selm: selm.rollback(name, alias, reason=reason))
    _print_alias(output, moved)


@adapters.command("alias")
def alias_revision(
    context: typer.Context,
    revision: str = typer.Argument(help="adapters/{adapter}/revisions/{revision} to point to."),
    alias: str = typer.Option(STABLE, help="Alias to move."),
    expected: str = typer.Option("", help="Only if the alias points to this revision now."),
    always: bool = typer.Option(False, help="Use the adapter for every request, in scope or not."),
    force: bool = typer.Option(False, help="Even if the gate did not accept the revision."),
    reason: str = typer.Option("", help="Kept with the move."),
    output: Output = OUTPUT,
) -> None:
    """Point an alias to a revision."""
    mode = adapter_pb2.SCOPE_MODE_ALWAYS if always else adapter_pb2.SCOPE_MODE_UNSPECIFIED
    request = adapter_service_pb2.AliasAdapterRevisionRequest(
        name=revision,
        alias_id=alias,
        expected_revision=expected,
        scope_mode=mode,
        force=force,
        reason=reason,
        request_id=new_request_id(),
    )
    reply = ask_patiently(context, lambda selm: selm.trainer.adapters.AliasAdapterRevision(request))
    _print_alias(output, reply.alias)


def _show_adapter(context: typer.Context, name: str, output: Output) -> None:
    async def read(selm: SelmClient) -> adapter_service_pb2.ListAdapterRevisionsResponse:
        stub = selm.trainer.adapters
        found = await stub.GetAdapter(adapter_service_pb2.GetAdapterRequest(name=name))
        aliases = "; ".join(_alias(alias) for alias in found.adapter.aliases)
        fields = {
            "adapter": found.adapter.name,
            "base model": found.adapter.base_model,
            "aliases": aliases,
        }
        print_fields(output, found.adapter, fields)
        return await stub.ListAdapterRevisions(
            adapter_service_pb2.ListAdapterRevisionsRequest(parent=name)
        )

    print_messages(
        output,
        session(context).run(read).adapter_revisions,
        {
            "revision": lambda r: r.name,
            "state": lambda r: enum_word(r, "state"),
            "aliases": lambda r: ", ".join(r.alias_ids),
            "lessons": lambda r: str(r.manifest.lesson_count),
            "created": lambda r: when(r.create_time),
            "reason": lambda r: r.failure.message,
        },
    )


def _show_revision(context: typer.Context, name: str, output: Output) -> None:
    request = adapter_service_pb2.GetAdapterRevisionRequest(name=name)
    reply = ask(context, lambda selm: selm.trainer.adapters.GetAdapterRevision(request))
    revision = reply.adapter_revision
    manifest = revision.manifest
    fields = {
        "revision": revision.name,
        "state": enum_word(revision, "state"),
        "sha256": revision.sha256,
        "parent": revision.parent_revision,
        "aliases": ", ".join(revision.alias_ids),
        "base model": manifest.base_model,
        "base sha256": manifest.base_sha256,
        "lessons": str(manifest.lesson_count),
        "job": manifest.training_job,
        "evaluation": manifest.evaluation,
        "artifact": f"{revision.artifact.uri} ({revision.artifact.size_bytes} bytes)",
        "reason": revision.failure.message,
    }
    print_fields(output, revision, fields)


def _print_alias(output: Output, alias: adapter_pb2.Alias) -> None:
    fields = {
        "alias": alias.name,
        "revision": alias.adapter_revision,
        "previous": alias.previous_revision,
        "sha256": alias.sha256,
        "epoch": str(alias.epoch),
    }
    print_fields(output, alias, fields)


def _alias(alias: adapter_pb2.Alias) -> str:
    return f"{alias.name.rsplit('/', 1)[-1]} -> {alias.adapter_revision.rsplit('/', 1)[-1]}"
