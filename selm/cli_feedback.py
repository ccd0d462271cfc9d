"""`selm feedback ...`, `selm correct`: saying what an answer was worth, and reading what was."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1 import feedback_service_pb2, learning_service_pb2
from selm.cli_output import (
    OUTPUT,
    Output,
    ask,
    ask_patiently,
    enum_value,
    enum_word,
    enum_words,
    err,
    out,
    print_fields,
    print_json,
    print_messages,
    session,
    when,
)
from selm.client import Receipt, SelmClient
from selm.client_channel import new_request_id

GENERATION = typer.Argument(help="generations/{generation}, as `selm chat` prints it.")
TARGET = typer.Argument(help="generations/{generation} or conversations/{conversation}.")
ONLY_KIND = typer.Option([], "--kind", help=f"{enum_words(pb.FeedbackKind)}; may be repeated.")
ONLY_STATE = typer.Option(
    [], "--state", help=f"{enum_words(pb.FeedbackEvent.State)}; may be repeated."
)
ONLY_GENERATION = typer.Option("", "--generation", help="Only about this generations/{generation}.")
ONLY_ADAPTER = typer.Option("", "--adapter", help="Only for this adapters/{adapter}.")
ONLY_USER = typer.Option("", "--user", help="Only of this users/{user}.")

feedback = typer.Typer(help="What people say about answers.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Registers these commands."""
    app.command()(correct)
    feedback.command()(correct)
    app.add_typer(feedback, name="feedback")


def correct(
    context: typer.Context,
    generation: str = GENERATION,
    answer: str = typer.Argument(help="What should have been answered."),
    question: str | None = typer.Option(None, help="Default: the last user message."),
    paraphrase: list[str] = typer.Option([], help="Another way to ask it; may be repeated."),
    output: Output = OUTPUT,
) -> None:
    """Correct an answer; the reply names the lesson it becomes."""
    _give(context, output, lambda selm: selm.correct(generation, answer, question, paraphrase))


@feedback.command()
def thumbs(
    context: typer.Context,
    target: str = TARGET,
    direction: str = typer.Argument(help="up or down."),
    output: Output = OUTPUT,
) -> None:
    """Approve or disapprove."""
    is_up = enum_value(pb.Thumbs, direction) == pb.THUMBS_UP
    _give(context, output, lambda selm: selm.thumbs(target, up=is_up))


@feedback.command()
def rate(
    context: typer.Context,
    target: str = TARGET,
    value: float = typer.Argument(help="0 to --max."),
    best: float = typer.Option(5.0, "--max", help="Best rating."),
    output: Output = OUTPUT,
) -> None:
    """Rate by a number."""
    _give(context, output, lambda selm: selm.rate(target, value, max_value=best))


@feedback.command()
def prefer(
    context: typer.Context,
    generation: str = GENERATION,
    chosen: str = typer.Argument(help="The better text."),
    over: str = typer.Option("", help="The worse text; default: what was answered."),
    output: Output = OUTPUT,
) -> None:
    """Say that one text is better than another."""
    _give(context, output, lambda selm: selm.prefer(generation, chosen, over))


@feedback.command()
def comment(
    context: typer.Context,
    target: str = TARGET,
    text: str = typer.Argument(help="Words for people; they train nothing."),
    output: Output = OUTPUT,
) -> None:
    """Leave a comment."""
    _give(context, output, lambda selm: selm.comment(target, text))


@feedback.command("action")
def note_action(
    context: typer.Context,
    target: str = TARGET,
    action: str = typer.Argument(help=f"{enum_words(pb.Implicit.Action)}."),
    text: str = typer.Option("", help="What the answer was edited to."),
    output: Output = OUTPUT,
) -> None:
    """Note what was done with an answer."""
    value = enum_value(pb.Implicit.Action, action)
    _give(context, output, lambda selm: selm.note_action(target, value, text))


@feedback.command("get")
def get_event(
    context: typer.Context,
    name: str = typer.Argument(help="feedbackEvents/{feedback_event}."),
    output: Output = OUTPUT,
) -> None:
    """Show what was said, and what was decided about it."""

    request = feedback_service_pb2.GetFeedbackEventRequest(name=name)
    reply = ask(context, lambda selm: selm.feedback.service.GetFeedbackEvent(request))
    event = reply.feedback_event
    fields = {
        "event": event.name,
        "about": _target(event),
        "said": _said(event),
        "state": enum_word(event, "state"),
        "reason": event.failure.message,
        "by": event.author,
        "user": event.user,
        "adapter": event.adapter,
        "reach": enum_word(event, "reach"),
        "lesson": event.lesson,
        "created": when(event.create_time),
    }
    print_fields(output, event, fields)


@feedback.command("ls")
def list_events(
    context: typer.Context,
    kind: list[str] = ONLY_KIND,
    state: list[str] = ONLY_STATE,
    generation: str = ONLY_GENERATION,
    adapter: str = ONLY_ADAPTER,
    user: str = ONLY_USER,
    limit: int = typer.Option(20, min=1, max=500, help="Newest this many."),
    output: Output = OUTPUT,
) -> None:
    """List what was said, newest first."""
    request = feedback_service_pb2.ListFeedbackEventsRequest(
        page_size=limit, filter=_filter(kind, state, generation, adapter, user)
    )

    columns: dict[str, Callable[[pb.FeedbackEvent], str]] = {
        "created": lambda e: when(e.create_time),
        "event": lambda e: e.name,
        "about": _target,
        "kind": lambda e: enum_word(e, "kind"),
        "state": lambda e: enum_word(e, "state"),
        "said": _said,
        "by": lambda e: e.author,
    }
    reply = ask(context, lambda selm: selm.feedback.service.ListFeedbackEvents(request))
    print_messages(output, reply.feedback_events, columns)


@feedback.command("watch")
def watch_events(
    context: typer.Context,
    kind: list[str] = ONLY_KIND,
    state: list[str] = ONLY_STATE,
    generation: str = ONLY_GENERATION,
    adapter: str = ONLY_ADAPTER,
    user: str = ONLY_USER,
    first: int = typer.Option(0, "--from", min=0, help="Begin with this sequence, not now."),
    output: Output = OUTPUT,
) -> None:
    """Follow what is said and decided, until interrupted."""
    wanted = _filter(kind, state, generation, adapter, user)
    wanted.first_sequence = first

    async def follow(selm: SelmClient) -> None:
        async with aclosing(selm.watch_feedback(wanted)) as events:
            async for event in events:
                if output is Output.JSON:
                    print_json(event)
                    continue
                words = (when(event.create_time), event.name, enum_word(event, "state"))
                out.print("  ".join((*words, _said(event))), markup=False, soft_wrap=True)

    session(context).run(follow)


@feedback.command("export")
def export_events(
    context: typer.Context,
    file: Path = typer.Argument(help="JSONL: one event with its exchange per line."),
    kind: list[str] = ONLY_KIND,
    state: list[str] = ONLY_STATE,
    generation: str = ONLY_GENERATION,
    adapter: str = ONLY_ADAPTER,
    user: str = ONLY_USER,
) -> None:
    """Write what was said to a file, oldest first, with what was asked and answered."""
    wanted = _filter(kind, state, generation, adapter, user)
    # A broken export must not look like a whole one.
    part = file.with_name(file.name + ".part")

    async def write(selm: SelmClient) -> int:
        number = 0
        columns = (SpinnerColumn(), TextColumn("{task.completed} events"), TimeElapsedColumn())
        with part.open("w", encoding="utf-8") as lines, Progress(*columns, console=err) as shown:
            task = shown.add_task("", total=None)
            async with aclosing(selm.export_feedback(wanted)) as exported:
                async for line in exported:
                    lines.write(line + "\n")
                    number += 1
                    shown.advance(task)
        return number

    number = session(context).run(write)
    part.replace(file)
    out.print(f"{number} events in {file}", markup=False, soft_wrap=True)


@feedback.command("replay")
def replay_events(
    context: typer.Context,
    first: int = typer.Option(..., "--from", min=1, help="From this sequence on."),
    last: int = typer.Option(0, "--to", min=0, help="Up to this sequence; 0 is the newest."),
    consumer: str = typer.Option("memory_svc", help="Who gets it again."),
    output: Output = OUTPUT,
) -> None:
    """Deliver again what was recorded, to a service that lost it; nothing counts twice."""
    request = learning_service_pb2.ReplayFeedbackEventsRequest(
        first_sequence=first, last_sequence=last, consumer=consumer, request_id=new_request_id()
    )
    reply = ask_patiently(
        context, lambda selm: selm.feedback.learning.ReplayFeedbackEvents(request)
    )
    print_fields(output, reply, {"replayed": str(reply.replay_count)})


def _give(
    context: typer.Context, output: Output, say: Callable[[SelmClient], Awaitable[Receipt]]
) -> None:
    receipt = session(context).run(say)
    event = receipt.feedback_event
    fields = {"event": event.name, "lesson": event.lesson, "token": receipt.consistency_token}
    if event.state > pb.FeedbackEvent.STATE_ACCEPTED:
        fields |= {"state": enum_word(event, "state"), "reason": event.failure.message}
    print_fields(output, event, fields)


def _filter(
    kinds: list[str], states: list[str], generation: str, adapter: str, user: str
) -> pb.FeedbackFilter:
    return pb.FeedbackFilter(
        kinds=[enum_value(pb.FeedbackKind, word) for word in kinds],
        states=[enum_value(pb.FeedbackEvent.State, word) for word in states],
        generation=generation,
        adapter=adapter,
        user=user,
    )


def _target(event: pb.FeedbackEvent) -> str:
    return event.generation or event.conversation


def _said(event: pb.FeedbackEvent) -> str:
    """The signal on one line."""
    match event.WhichOneof("signal"):
        case "thumbs":
            return enum_word(event, "thumbs").lower()
        case "rating":
            return f"{event.rating.value:g} of {event.rating.max_value:g}"
        case "correction":
            return f"{event.correction.question} -> {event.correction.text}"
        case "preference":
            return f"{event.preference.chosen_text} > {event.preference.rejected_text}"
        case "comment":
            return event.comment.text
        case "implicit":
            action = enum_word(event.implicit, "action").lower()
            return " ".join(filter(None, (action, event.implicit.edited_text)))
    return ""
