"""`selm memory`: history, stats, export, import and purge; progress of long work on stderr.

A file holds one memory per line, as ProtoJSON of ImportMemoriesRequest.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TextIO

import typer
from google.protobuf import json_format
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from selm.api.memory.v1 import memory_admin_service_pb2 as pb
from selm.api.memory.v1 import memory_pb2, memory_service_pb2, search_pb2
from selm.cli_output import (
    OUTPUT,
    Output,
    enum_value,
    enum_word,
    err,
    out,
    print_fields,
    print_messages,
    session,
    when,
)
from selm.client import SelmClient
from selm.client_channel import new_request_id
from selm.client_retry import is_outage
from selm.errors import SelmError
from selm.names import ANONYMOUS_USER

USER = typer.Option(ANONYMOUS_USER, help="users/{user} the memories belong to.")
USER_OR_ALL = typer.Option(ANONYMOUS_USER, help="users/{user}, or users/- for the whole tenant.")
FILE = typer.Argument(help="JSONL, one memory per line.")

EXIT_REFUSED = 1


def add_to(memory: typer.Typer) -> None:
    """Registers these commands beside those of one memory."""
    for name, command in (
        ("history", history),
        ("stats", stats),
        ("export", export_memories),
        ("import", import_memories),
        ("purge", purge),
    ):
        memory.command(name)(command)


def memory_name(name: str, user: str) -> str:
    """A full name as it is; an id as one of the user's memories."""
    return name if "/" in name else f"{user}/memories/{name}"


def history(
    context: typer.Context,
    name: str = typer.Argument(help="users/{user}/memories/{memory}, or the id alone."),
    user: str = USER,
    output: Output = OUTPUT,
) -> None:
    """Show every change of a memory, oldest first."""
    request = memory_service_pb2.ListMemoryHistoryRequest(parent=memory_name(name, user))

    async def ask(selm: SelmClient) -> list[memory_pb2.MemoryChange]:
        changes: list[memory_pb2.MemoryChange] = []
        while True:
            page = await selm.memory.service.ListMemoryHistory(request)
            changes += page.changes
            if not page.next_page_token:
                return changes
            request.page_token = page.next_page_token

    print_messages(
        output,
        session(context).run(ask),
        {
            "when": lambda c: when(c.change_time),
            "what": lambda c: enum_word(c, "kind"),
            "by": lambda c: c.principal,
            "state": lambda c: enum_word(c.memory, "state"),
            "text": lambda c: c.memory.text,
        },
    )


def stats(context: typer.Context, user: str = USER_OR_ALL, output: Output = OUTPUT) -> None:
    """Count memories by type, state and embedding model."""
    request = pb.GetMemoryStatsRequest(parent=user)

    async def ask(selm: SelmClient) -> pb.GetMemoryStatsResponse:
        return await selm.memory.admin.GetMemoryStats(request)

    response = session(context).run(ask)
    if output is Output.JSON:
        print_fields(output, response, {})
        return
    print_messages(
        output,
        response.stats,
        {
            "type": lambda s: enum_word(s, "type"),
            "state": lambda s: enum_word(s, "state"),
            "memories": lambda s: str(s.memory_count),
            "bytes": lambda s: str(s.size_bytes),
            "oldest": lambda s: when(s.oldest_create_time),
            "newest": lambda s: when(s.newest_create_time),
            "embedding model": lambda s: s.embedding_model,
        },
    )
    out.print(f"owners: {response.user_count}", markup=False)


def export_memories(
    context: typer.Context,
    file: Path = FILE,
    user: str = USER_OR_ALL,
    vectors: bool = typer.Option(False, "--vectors", help="Add the stored vectors."),
) -> None:
    """Write memories in every state but DELETED to a file."""

    async def ask(selm: SelmClient) -> int:
        counted = await selm.memory.admin.GetMemoryStats(pb.GetMemoryStatsRequest(parent=user))
        total = sum(
            s.memory_count for s in counted.stats if s.state != memory_pb2.Memory.STATE_DELETED
        )
        with part.open("w", encoding="utf-8") as lines, _progress() as progress:
            return await _export(
                selm, request, lines, progress, progress.add_task("export", total=total)
            )

    # A broken export must not look like a whole one.
    part = file.with_name(file.name + ".part")
    request = pb.ExportMemoriesRequest(parent=user, include_vectors=vectors)
    number = session(context).run(ask)
    part.replace(file)
    out.print(f"{number} memories in {file}", markup=False, soft_wrap=True)


def import_memories(
    context: typer.Context,
    file: Path = FILE,
    user: str = typer.Option("", help="Only this users/{user}; empty: all in the file."),
    output: Output = OUTPUT,
) -> None:
    """Store the memories of a file; those that are there are skipped, so repeating is safe."""
    total = sum(1 for _ in _lines(file))
    faults: list[str] = []

    async def ask(selm: SelmClient) -> pb.ImportMemoriesResponse:
        with _progress() as progress:
            task = progress.add_task("import", total=total)
            return await selm.memory.admin.ImportMemories(
                _requests(file, user, faults, lambda: progress.advance(task))
            )

    response = session(context).run(ask)
    fields = {
        "imported": str(response.imported_count),
        "skipped": str(response.skipped_count),
        "refused": str(len(response.failures) or ""),
    }
    print_fields(output, response, fields)
    # Places among those that were sent.
    faults += [
        f"memory {failure.index}: {failure.failure.message}" for failure in response.failures
    ]
    for fault in faults:
        err.print(Text(f"  {fault}"), soft_wrap=True)
    if faults:
        raise typer.Exit(EXIT_REFUSED)


def purge(
    context: typer.Context,
    user: str = USER,
    kind: list[str] = typer.Option([], "--type", help="Only this type, e.g. CONTEXT; repeatable."),
    yes: bool = typer.Option(False, "--yes", help="Delete; else only count."),
    output: Output = OUTPUT,
) -> None:
    """Delete all memories of one user, in every state, for good."""
    request = pb.PurgeMemoriesRequest(parent=user, force=yes, request_id=new_request_id())
    if kind:
        types = [enum_value(memory_pb2.MemoryType, word) for word in kind]
        request.filter.CopyFrom(search_pb2.MemoryFilter(types=types))

    async def ask(selm: SelmClient) -> pb.PurgeMemoriesResponse:
        return await selm.memory.admin.PurgeMemories(request, timeout=_PURGE_TIMEOUT_S)

    response = session(context).run(ask)
    fields = {
        "user": user,
        "deleted" if yes else "would delete": str(response.purge_count),
        "among them": "\n".join(response.sample_memories),
    }
    print_fields(output, response, fields)
    if not yes and response.purge_count:
        err.print("nothing was deleted: repeat with --yes", markup=False)


# Each tombstone is on disk before the next step: a large owner takes minutes.
_PURGE_TIMEOUT_S = 3600.0


async def _export(
    selm: SelmClient,
    request: pb.ExportMemoriesRequest,
    lines: TextIO,
    progress: Progress,
    task: TaskID,
) -> int:
    """Through broken streams: each goes on after the last line that was written."""
    number = 0
    wait = selm.patience.start()
    while True:
        try:
            async for frame in selm.memory.admin.ExportMemories(request):
                lines.write(_line_of(frame) + "\n")
                request.resume_token = frame.resume_token
                number += 1
                progress.advance(task)
                wait = selm.patience.start()
        except SelmError as error:
            if not is_outage(error):
                raise
            await wait.after(error)
        else:
            return number


async def _requests(
    file: Path, user: str, faults: list[str], advance: Callable[[], None]
) -> AsyncIterator[pb.ImportMemoriesRequest]:
    """Up to the first line that cannot be read."""
    for number, line in _lines(file):
        advance()
        request = pb.ImportMemoriesRequest()
        try:
            json_format.Parse(line, request, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            faults.append(f"line {number}: {error}")
            return
        if not user or request.memory.name.startswith(f"{user}/"):
            yield request


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    with file.open(encoding="utf-8") as lines:
        yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _line_of(frame: pb.ExportMemoriesResponse) -> str:
    request = pb.ImportMemoriesRequest(memory=frame.memory, vector=frame.vector)
    return json.dumps(json_format.MessageToDict(request), ensure_ascii=False)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
    )
