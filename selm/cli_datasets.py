"""`selm datasets ...`: freezing what was taught into training sets, and taking them out."""

import hashlib
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import TextIO

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import dataset_pb2, feedback_event_pb2
from selm.api.feedback.v1 import dataset_service_pb2 as pb
from selm.cli_output import (
    OUTPUT,
    Output,
    ask,
    ask_patiently,
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
from selm.names import DEFAULT_ADAPTER

NAME = typer.Argument(help="datasets/{dataset}, or its id.")

datasets = typer.Typer(help="Training sets frozen from feedback.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Registers these commands."""
    app.add_typer(datasets, name="datasets")


@datasets.command("create")
def create(
    context: typer.Context,
    dataset_id: str = typer.Argument("", help="Default: the server chooses."),
    adapter: str = typer.Option(DEFAULT_ADAPTER, help="Whose feedback."),
    holdout: float = typer.Option(0.0, min=0, max=0.5, help="Share of facts kept for judging."),
    seed: int = typer.Option(0, min=0, help="Seed of the split."),
    share: float = typer.Option(
        0.0, min=0, max=1, help="Largest share of one author; 0 is the policy's."
    ),
    last: int = typer.Option(0, "--last", min=0, help="Nothing behind this sequence; 0 is now."),
    output: Output = OUTPUT,
) -> None:
    """Freeze the feedback of an adapter."""
    spec = dataset_pb2.DatasetSpec(
        filter=feedback_event_pb2.FeedbackFilter(last_sequence=last),
        holdout_share=holdout,
        seed=seed,
        max_author_share=share,
    )
    request = pb.CreateDatasetRequest(
        dataset=dataset_pb2.Dataset(adapter=adapter, spec=spec),
        dataset_id=dataset_id,
        request_id=new_request_id(),
    )

    reply = ask_patiently(context, lambda selm: selm.feedback.datasets.CreateDataset(request))
    _print(output, reply.dataset)


@datasets.command("ls")
def list_datasets(
    context: typer.Context,
    adapter: str = typer.Option("", help="Only for this adapters/{adapter}."),
    limit: int = typer.Option(20, min=1, max=500, help="Newest this many."),
    output: Output = OUTPUT,
) -> None:
    """List datasets, newest first."""
    request = pb.ListDatasetsRequest(adapter=adapter, page_size=limit)

    columns: dict[str, Callable[[dataset_pb2.Dataset], str]] = {
        "created": lambda d: when(d.create_time),
        "dataset": lambda d: d.name,
        "adapter": lambda d: d.adapter,
        "state": lambda d: enum_word(d, "state"),
        "examples": lambda d: str(d.example_count),
        "sha256": lambda d: d.sha256[:12],
    }
    reply = ask(context, lambda selm: selm.feedback.datasets.ListDatasets(request))
    print_messages(output, reply.datasets, columns)


@datasets.command("get")
def show(context: typer.Context, name: str = NAME, output: Output = OUTPUT) -> None:
    """What a dataset holds, and what was left out."""
    request = pb.GetDatasetRequest(name=_name(name))

    reply = ask(context, lambda selm: selm.feedback.datasets.GetDataset(request))
    _print(output, reply.dataset)


@datasets.command("export")
def export(
    context: typer.Context,
    name: str = NAME,
    file: Path = typer.Argument(help="JSONL, as Hugging Face datasets and TRL read it."),
    shape: str = typer.Option("sft", "--format", help="sft, dpo, kto or full."),
    split: str = typer.Option("", help="train or holdout; default: both."),
) -> None:
    """Write a dataset to a file; run again, a broken export goes on where it ended."""
    request = pb.ExportDatasetRequest(name=_name(name))
    request.format = enum_value(pb.ExportDatasetRequest.Format, shape)
    if split:
        request.split = enum_value(dataset_pb2.Split, split)
    part = part_of(file, request)
    place = part.with_suffix(".resume")

    async def write(selm: SelmClient) -> int:
        total = await selm.feedback.datasets.GetDataset(pb.GetDatasetRequest(name=request.name))
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("lines"), TimeElapsedColumn())
        with part.open("a+", encoding="utf-8") as lines, Progress(*columns, console=err) as shown:
            number = _go_on(lines, place, request)
            task = shown.add_task("", total=total.dataset.example_count, completed=number)
            try:
                async with aclosing(selm.export_dataset(request)) as exported:
                    async for line in exported:
                        lines.write(line + "\n")
                        number += 1
                        shown.advance(task)
            finally:
                lines.flush()
                place.write_text(f"{lines.tell()} {number} {request.resume_token}")
            # Of some examples a shape has no line, of others two.
            shown.update(task, total=number)
        return number

    number = session(context).run(write)
    part.replace(file)
    place.unlink()
    out.print(f"{number} lines in {file}", markup=False, soft_wrap=True)


def part_of(file: Path, request: pb.ExportDatasetRequest) -> Path:
    """Where an export is written until it is whole; another query has another place."""
    query = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()[:8]
    return file.with_name(f"{file.name}.{query}.part")


def _go_on(lines: TextIO, place: Path, request: pb.ExportDatasetRequest) -> int:
    """Cuts off what no token covers and sets the request behind the rest; its lines."""
    size, number, token = 0, 0, ""
    if place.is_file():
        fields = place.read_text().split(" ")
        size, number, token = int(fields[0]), int(fields[1]), fields[2]
    lines.truncate(size)
    lines.seek(size)
    request.resume_token = token
    return number


def _print(output: Output, dataset: dataset_pb2.Dataset) -> None:
    counts = (
        f"{enum_word(c, 'split')} {enum_word(c, 'kind')} {c.example_count}" for c in dataset.counts
    )
    left_out = (
        f"{ErrorReason.Name(e.reason).removeprefix('ERROR_REASON_')} {e.feedback_count}"
        for e in dataset.exclusions
    )
    fields = {
        "dataset": dataset.name,
        "adapter": dataset.adapter,
        "state": enum_word(dataset, "state"),
        "examples": f"{dataset.example_count} ({', '.join(counts)})",
        "left out": ", ".join(left_out),
        "up to": str(dataset.last_sequence),
        "sha256": dataset.sha256,
        "bytes": str(dataset.size_bytes),
    }
    print_fields(output, dataset, fields)


def _name(name: str) -> str:
    return name if name.startswith("datasets/") else f"datasets/{name}"
