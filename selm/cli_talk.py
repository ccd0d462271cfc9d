"""`selm chat` and `selm info`: asking the model, and asking the servers about themselves."""

import sys

import typer
from rich.text import Text

from selm.api.inference.v1 import generation_pb2, inference_service_pb2, input_pb2
from selm.api.memory.v1 import memory_pb2
from selm.api.ops.v1 import server_service_pb2
from selm.cli_output import (
    OUTPUT,
    Output,
    enum_word,
    err,
    explain,
    print_fields,
    print_json,
    print_messages,
    session,
    when,
)
from selm.client import SelmClient
from selm.client_answer import Answer, Ask
from selm.errors import SelmError


def add_to(app: typer.Typer) -> None:
    """Registers these commands."""
    app.command()(chat)
    app.command()(info)


def chat(
    context: typer.Context,
    text: str | None = typer.Argument(None, help="The question; without it a conversation starts."),
    adapter: str = typer.Option(
        "", help="adapters/{adapter}, a revision or alias, a sha256, or `none` for the base model."
    ),
    memory: bool = typer.Option(True, help="Let memory take part in the answer."),
    memories: int = typer.Option(
        0, help="Most memories told at once; 0 means the server's default."
    ),
    direct_similarity: float | None = typer.Option(
        None, help="0 to 1: give a stored answer as it is from this cosine of both questions on."
    ),
    system: str = typer.Option("", help="System message."),
    user: str = typer.Option("", help="users/{user} the answer is for."),
    max_tokens: int = typer.Option(0, help="Most output tokens; 0 means the server's default."),
    temperature: float = typer.Option(0.0, help="0 is greedy."),
    token: str = typer.Option("", help="Consistency token of a correction the answer must know."),
    output: Output = OUTPUT,
) -> None:
    """Ask the model; the answer is streamed."""
    ask = Ask(
        system=system,
        adapter=adapter,
        max_use=memory_pb2.MEMORY_USE_UNSPECIFIED if memory else memory_pb2.MEMORY_USE_NONE,
        max_memories=memories,
        direct_similarity=direct_similarity,
        consistency_token=token,
        max_output_tokens=max_tokens,
        temperature=temperature,
        user=user,
    )

    async def once(selm: SelmClient) -> None:
        if text is None:
            await _converse(selm, ask)
        elif output is Output.JSON:
            print_json(_as_generation(await selm.stream(text, ask).whole()))
        else:
            await _stream(selm, text, ask)

    session(context).run(once)


def info(context: typer.Context, output: Output = OUTPUT) -> None:
    """Version, start time and dependency checks of the four processes, and the base model."""

    async def ask(selm: SelmClient) -> bool:
        infos = await selm.server_infos()
        print_messages(
            output,
            infos,
            {
                "service": lambda i: i.service,
                "instance": lambda i: i.instance,
                "version": lambda i: i.version,
                "started": lambda i: when(i.start_time),
                "checks": _checks,
            },
        )
        model = await selm.inference.service.GetModel(inference_service_pb2.GetModelRequest())
        fields = ("name", "source", "sha256", "dtype", "device", "context_length")
        values = {name: str(getattr(model.model, name)) for name in fields}
        print_fields(output, model.model, values)
        return all(check.passed for info in infos for check in info.checks)

    if not session(context).run(ask):
        raise typer.Exit(1)


def _checks(info: server_service_pb2.ServerInfo) -> str:
    failed = [f"{check.check}: {check.detail}" for check in info.checks if not check.passed]
    return "; ".join(failed) if failed else f"{len(info.checks)} passed"


async def _converse(selm: SelmClient, ask: Ask) -> None:
    """Question and answer until the input ends; earlier turns are sent along."""
    turns: list[tuple[input_pb2.Role.ValueType, str]] = []
    err.print("Empty line or Ctrl-D ends the conversation.", style="dim")
    while True:
        err.print(Text("> "), end="")
        text = sys.stdin.readline().strip()
        if not text:
            return
        try:
            answer = await _stream(selm, text, Ask(**{**vars(ask), "history": tuple(turns)}))
        except SelmError as error:
            explain(error)
            continue
        turns += [(input_pb2.ROLE_USER, text), (input_pb2.ROLE_ASSISTANT, answer.text)]


async def _stream(selm: SelmClient, text: str, ask: Ask) -> Answer:
    """Writes the pieces as they come, and where they came from to stderr."""
    stream = selm.stream(text, ask)
    async for piece in stream:
        # As it is: markup or wrapping would change the model's words.
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    err.print(Text(_origin(stream.answer), "dim"), soft_wrap=True)
    return stream.answer


def _origin(answer: Answer) -> str:
    """One line: the generation to correct, which weights, and what memory did."""
    message = _as_generation(answer)
    parts = [answer.generation]
    resolution = answer.resolution
    parts.append(resolution.adapter_revision if resolution.adapter_applied else "base model")
    parts.append(enum_word(resolution, "adapter_reason").lower())
    uses = {enum_word(m, "use").lower() for m in answer.memories} - {"none", ""}
    parts.append(
        "memory " + (", ".join(sorted(uses)) or enum_word(message, "memory_state").lower())
    )
    parts.append(enum_word(message.candidates[0], "finish_reason").lower())
    return " · ".join(parts)


def _as_generation(answer: Answer) -> generation_pb2.Generation:
    """The streamed answer in the shape Generate returns it."""
    candidate = generation_pb2.Candidate(text=answer.text, finish_reason=answer.finish_reason)
    return generation_pb2.Generation(
        name=answer.generation,
        resolution=answer.resolution,
        memory_state=answer.memory_state,
        memories=answer.memories,
        candidates=[candidate],
    )
