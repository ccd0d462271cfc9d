"""`selm`: the command line. Owns the tree of commands and the global options, no command group."""

import sys
from pathlib import Path

import typer
from rich.text import Text

from selm import (
    __version__,
    cli_adapters,
    cli_datasets,
    cli_erasure,
    cli_feedback,
    cli_learn,
    cli_memory,
    cli_review,
    cli_talk,
    cli_training,
)
from selm.cli_output import Session, err

app = typer.Typer(
    name="selm",
    help="SELM: a language-model service that verifiably learns from its users' corrections.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli_talk.add_to(app)
cli_feedback.add_to(app)
cli_learn.add_to(app)
cli_memory.add_to(app)
cli_adapters.add_to(app)
cli_datasets.add_to(app)
cli_erasure.add_to(app)
cli_review.add_to(app)
cli_training.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"selm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    tenant: str | None = typer.Option(
        None, help="Act for this tenant (development, or operators)."
    ),
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """SELM: a language-model service that verifiably learns from its users' corrections."""
    context.obj = Session(tenant)


@app.command()
def up(
    reload: bool = typer.Option(False, "--reload", help="Restart a service when its code changes."),
) -> None:
    """Start nats-server, Milvus Lite and the four services on this machine; Ctrl-C stops them."""
    # Not at the top: the base install has no servers to start, and other commands stay quick.
    from selm.devstack import run as run_stack

    raise typer.Exit(run_stack(reload=reload))


@app.command()
def demo(
    context: typer.Context,
    seed: int = typer.Option(1, min=0, help="Another seed invents other facts."),
    json_file: Path | None = typer.Option(
        None, "--json", help="Also write every number and answer to this file."
    ),
) -> None:
    """Teach 12 invented facts to the running services; fails unless they were learned."""
    from selm import cli_demo

    raise typer.Exit(cli_demo.run(context, seed, json_file))


def main() -> None:
    """Entry point of the `selm` command."""
    try:
        app()
    except BrokenPipeError:
        # `selm ... | head` closed the pipe: nothing went wrong.
        sys.exit(0)
    except OSError as error:
        err.print(Text(f"error: {error}", "red"))
        sys.exit(1)


if __name__ == "__main__":
    main()
