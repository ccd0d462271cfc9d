"""What the command line prints: tables or JSON on stdout, one-line errors and progress on stderr.

Rich obeys NO_COLOR and plain pipes by itself. Knows messages of the contract, no RPCs.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC
from enum import StrEnum
from typing import Any, TypeVar

import typer
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from selm.client import SelmClient
from selm.errors import InvalidFields, SelmError
from selm.settings import SettingsError, SharedSettings, load_settings

# grpcurl's rule, so that scripts may expect the same of both: 64 + the gRPC code.
GRPC_EXIT_BASE = 64
EXIT_INTERRUPTED = 130

# A pipe has no width: names must not be cut in two there.
PIPE_WIDTH = 200
out = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True)

Result = TypeVar("Result")


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


OUTPUT = typer.Option(Output.TABLE, "--output", "-o", help="table or json")


class Session:
    """What the global options chose; commands get it as their context's object."""

    def __init__(self, tenant: str | None = None) -> None:
        self.tenant = tenant

    def run(
        self, use: Callable[[SelmClient], Awaitable[Result]], *, patience_s: float = 10.0
    ) -> Result:
        """Opens a client and does one thing with it; errors become a line and an exit code."""

        async def opened() -> Result:
            settings = load_settings(SharedSettings)
            client = SelmClient.from_settings(settings, tenant=self.tenant, patience_s=patience_s)
            async with client as selm:
                return await use(selm)

        try:
            return asyncio.run(opened())
        except SelmError as error:
            raise typer.Exit(explain(error)) from None
        except SettingsError as error:
            err.print(Text(f"error: {error}", "red"))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None


def session(context: typer.Context) -> Session:
    """The session of this invocation."""
    found = context.find_object(Session)
    return found or Session()


def ask(context: typer.Context, call: Callable[[SelmClient], Awaitable[Result]]) -> Result:
    """The reply to one call: a read, which may be asked again by hand if it fails."""
    return session(context).run(call)


def ask_patiently(
    context: typer.Context, call: Callable[[SelmClient], Awaitable[Result]]
) -> Result:
    """The reply to a write with a request_id: repeated through an outage, it counts once."""
    return session(context).run(lambda selm: selm.patience.through(lambda: call(selm)))


def explain(error: SelmError) -> int:
    """Prints an error as one line, its field violations below; returns the exit code."""
    if isinstance(error, InvalidFields):
        err.print(Text(f"error: {error.reason}", "red"))
        for violation in error.violations:
            err.print(Text(f"  {violation.field}: {violation.description}"))
    else:
        err.print(Text(f"error: {error}", "red"), soft_wrap=True)
    if error.retry_after_s is not None:
        err.print(Text(f"  may succeed if repeated in {error.retry_after_s:g} s"))
    return GRPC_EXIT_BASE + int(error.code.value[0])


def print_messages(
    output: Output, messages: Sequence[Message], columns: Mapping[str, Callable[[Any], str]]
) -> None:
    """One row or one JSON line per message."""
    if output is Output.JSON:
        for message in messages:
            print_json(message)
        return
    table = Table(box=None, pad_edge=False)
    for heading in columns:
        table.add_column(heading, overflow="fold")
    for message in messages:
        table.add_row(*(Text(cell(message)) for cell in columns.values()))
    out.print(table)


def print_fields(output: Output, message: Message, fields: Mapping[str, str]) -> None:
    """One message as a list of fields, empty ones left out, or as JSON."""
    if output is Output.JSON:
        print_json(message)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value:
            table.add_row(name, Text(value))
    out.print(table)


def print_json(message: Message) -> None:
    """Canonical ProtoJSON on one line: jq and log collectors read it as it comes."""
    value = json_format.MessageToDict(message)
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def enum_word(message: Message, field: str) -> str:
    """An enum field without its prefix: STATE_QUEUED of State reads QUEUED."""
    kind = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert kind is not None
    return kind.values_by_number[getattr(message, field)].name.removeprefix(_prefix(kind))


def enum_words(kind: Any) -> str:
    """The words of an enum, as a person types them: `waiting, queued or failed`."""
    *others, last = _numbers(kind)
    return f"{', '.join(others)} or {last}"


def enum_value(kind: Any, word: str) -> Any:
    """The value of an enum by its word in any case: `queued` is STATE_QUEUED of State."""
    numbers = _numbers(kind)
    if word.lower() not in numbers:
        raise typer.BadParameter(f"{word}: give {enum_words(kind)}")
    return numbers[word.lower()]


def _numbers(kind: Any) -> dict[str, int]:
    prefix = _prefix(kind.DESCRIPTOR)
    return {name.removeprefix(prefix).lower(): n for name, n in kind.items() if n}


def _prefix(kind: Any) -> str:
    return str(kind.values_by_number[0].name).removesuffix("UNSPECIFIED")


def when(time: Timestamp) -> str:
    """A timestamp in local time; empty if unset."""
    if not time.seconds:
        return ""
    return time.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
