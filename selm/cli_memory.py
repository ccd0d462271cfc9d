"""`selm memory`: add, list, search and remove memories of one user; more in cli_memory_upkeep."""

import typer

from selm import cli_memory_upkeep
from selm.api.memory.v1 import memory_pb2, memory_service_pb2, search_pb2
from selm.cli_memory_upkeep import USER, memory_name
from selm.cli_output import (
    OUTPUT,
    Output,
    ask,
    ask_patiently,
    enum_word,
    out,
    print_fields,
    print_messages,
)
from selm.cli_reembed import reembed
from selm.client_channel import new_request_id

_LIVE = search_pb2.MemoryFilter(
    states=[memory_pb2.Memory.STATE_ACTIVE, memory_pb2.Memory.STATE_RETIRED]
)

memory = typer.Typer(help="What is remembered for a user.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Registers these commands."""
    cli_memory_upkeep.add_to(memory)
    memory.command("reembed")(reembed)
    app.add_typer(memory, name="memory")


@memory.command("add")
def add(
    context: typer.Context,
    text: str = typer.Argument(help="What to remember: the answer, if --question is given."),
    question: str = typer.Option("", help="The question it answers."),
    user: str = USER,
    output: Output = OUTPUT,
) -> None:
    """Remember a text."""
    correction = memory_pb2.MEMORY_TYPE_CORRECTION
    kind = correction if question else memory_pb2.MEMORY_TYPE_FACT
    request = memory_service_pb2.CreateMemoryRequest(
        parent=user,
        memory=memory_pb2.Memory(type=kind, text=text, question=question),
        request_id=new_request_id(),
    )

    response = ask_patiently(context, lambda selm: selm.memory.service.CreateMemory(request))
    fields = {
        "memory": response.memory.name,
        "superseded": response.superseded_memory,
        "duplicate": "yes" if response.duplicate else "",
        "token": response.consistency_token,
    }
    print_fields(output, response, fields)


@memory.command("ls")
def list_memories(
    context: typer.Context,
    user: str = USER,
    limit: int = typer.Option(50, min=1, max=500, help="Newest this many."),
    output: Output = OUTPUT,
) -> None:
    """List a user's memories, those that the weights have taken over included."""
    request = memory_service_pb2.ListMemoriesRequest(parent=user, page_size=limit, filter=_LIVE)

    reply = ask(context, lambda selm: selm.memory.service.ListMemories(request))
    print_messages(
        output,
        reply.memories,
        {
            "memory": lambda m: m.name,
            "state": lambda m: enum_word(m, "state"),
            "question": lambda m: m.question,
            "text": lambda m: m.text,
        },
    )


@memory.command("search")
def search(
    context: typer.Context,
    query: str = typer.Argument(help="What to look for."),
    user: str = USER,
    limit: int = typer.Option(5, min=1, max=100, help="Best this many."),
    output: Output = OUTPUT,
) -> None:
    """Search memories, best first, with the gate's decision."""
    request = memory_service_pb2.SearchMemoriesRequest(
        parent=user, query=query, max_results=limit, filter=_LIVE
    )

    reply = ask(context, lambda selm: selm.memory.service.SearchMemories(request))
    print_messages(
        output,
        reply.hits,
        {
            "score": lambda h: f"{h.score:.3f}",
            "scope": lambda h: enum_word(h.scope, "verdict"),
            "why": lambda h: enum_word(h.scope, "reason"),
            "question": lambda h: h.memory.question,
            "text": lambda h: h.memory.text,
            "memory": lambda h: h.memory.name,
        },
    )


@memory.command("rm")
def remove(
    context: typer.Context,
    name: str = typer.Argument(help="users/{user}/memories/{memory}, or the id alone."),
    user: str = USER,
) -> None:
    """Forget a memory."""
    name = memory_name(name, user)
    request = memory_service_pb2.DeleteMemoryRequest(name=name, request_id=new_request_id())

    ask_patiently(context, lambda selm: selm.memory.service.DeleteMemory(request))
    out.print(f"deleted {name}", markup=False, soft_wrap=True)
