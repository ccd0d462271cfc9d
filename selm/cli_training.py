"""`selm policy`, `selm requests`, `selm dead-letters`: when to learn, what waits, what is stuck."""

from collections.abc import Callable
from typing import Any

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from selm.api.feedback.v1 import feedback_event_pb2, learning_pb2
from selm.api.feedback.v1 import learning_service_pb2 as pb
from selm.cli_output import (
    OUTPUT,
    Output,
    ask,
    ask_patiently,
    enum_value,
    enum_word,
    enum_words,
    out,
    print_fields,
    print_messages,
    when,
)
from selm.client_channel import new_request_id
from selm.names import DEFAULT_ADAPTER, training_policy_name

policy = typer.Typer(help="When an adapter learns.", no_args_is_help=True)
requests = typer.Typer(help="Training that was asked for.", no_args_is_help=True)
dead_letters = typer.Typer(help="What services gave up on.", no_args_is_help=True)

_ADAPTER = typer.Argument(DEFAULT_ADAPTER, help="adapters/{adapter}.")
_REQUEST = typer.Argument(help="trainingRequests/{training_request}.")
_LIMIT = typer.Option(20, min=1, max=500, help="Newest this many.")
# Spans are given in seconds here.
_SPANS = ("max_lesson_age", "debounce", "cooldown", "daily_budget")


def add_to(app: typer.Typer) -> None:
    """Registers these commands."""
    app.add_typer(policy, name="policy")
    app.add_typer(requests, name="requests")
    app.add_typer(dead_letters, name="dead-letters")


@policy.command("show")
def show_policy(context: typer.Context, adapter: str = _ADAPTER, output: Output = OUTPUT) -> None:
    """Show an adapter's policy with the defaults filled in."""
    request = pb.GetTrainingPolicyRequest(name=training_policy_name(adapter))

    reply = ask(context, lambda selm: selm.feedback.learning.GetTrainingPolicy(request))
    _print_policy(output, reply.training_policy)


@policy.command("set")
def set_policy(
    context: typer.Context,
    adapter: str = _ADAPTER,
    paused: bool | None = typer.Option(None, "--paused/--running", help="Only manual requests."),
    min_lessons: int | None = typer.Option(None, help="Train when so many wait."),
    max_lesson_age: float | None = typer.Option(None, help="Seconds without a new one; 0 is off."),
    schedule: str | None = typer.Option(None, help="Five-field cron in UTC; '' is off."),
    debounce: float | None = typer.Option(None, help="Seconds to wait after the last lesson."),
    cooldown: float | None = typer.Option(None, help="Seconds between two requests."),
    daily_budget: float | None = typer.Option(None, help="Seconds of training per UTC day."),
    review_required: bool | None = typer.Option(
        None, "--review/--no-review", help="Every correction waits for a reviewer."
    ),
    quorum_authors: int | None = typer.Option(None, help="Authors who must agree."),
    max_author_share: float | None = typer.Option(None, help="Of a dataset, above 0 to 1."),
    default_consent: str | None = typer.Option(
        None, help=f"{enum_words(feedback_event_pb2.Consent)}."
    ),
    reset: list[str] = typer.Option([], help="Field to set back to its default; repeatable."),
    output: Output = OUTPUT,
) -> None:
    """Change what is named; the rest stays."""
    chosen = {
        "paused": paused,
        "min_lessons": min_lessons,
        "max_lesson_age": max_lesson_age,
        "schedule": schedule,
        "debounce": debounce,
        "cooldown": cooldown,
        "daily_budget": daily_budget,
        "review_required": review_required,
        "quorum_authors": quorum_authors,
        "max_author_share": max_author_share,
        "default_consent": default_consent,
    }
    fields = {name: _field(name, value) for name, value in chosen.items() if value is not None}
    wanted = learning_pb2.TrainingPolicy(name=training_policy_name(adapter), **fields)
    request = pb.UpdateTrainingPolicyRequest(training_policy=wanted, request_id=new_request_id())
    request.update_mask.paths.extend([*fields, *reset])
    if not request.update_mask.paths:
        raise typer.BadParameter("give at least one option that changes something")
    if unknown := set(reset) - chosen.keys():
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))}: give {', '.join(chosen)}", param_hint="--reset"
        )

    reply = ask_patiently(
        context, lambda selm: selm.feedback.learning.UpdateTrainingPolicy(request)
    )
    _print_policy(output, reply.training_policy)


@requests.command("ls")
def list_requests(
    context: typer.Context,
    state: list[str] = typer.Option(
        [], help=f"{enum_words(learning_pb2.TrainingRequest.State)}; may be repeated."
    ),
    adapter: str = typer.Option("", help="Only of this adapters/{adapter}."),
    limit: int = _LIMIT,
    output: Output = OUTPUT,
) -> None:
    """List training requests, newest first."""
    request = pb.ListTrainingRequestsRequest(
        adapter=adapter,
        page_size=limit,
        states=[enum_value(learning_pb2.TrainingRequest.State, word) for word in state],
    )

    reply = ask(context, lambda selm: selm.feedback.learning.ListTrainingRequests(request))
    print_messages(
        output,
        reply.training_requests,
        {
            "created": lambda r: when(r.create_time),
            "request": lambda r: r.name,
            "adapter": lambda r: r.adapter,
            "state": lambda r: enum_word(r, "state"),
            "trigger": lambda r: enum_word(r, "trigger"),
            "priority": lambda r: str(r.priority),
            "lessons": lambda r: str(r.lesson_count),
            "job": lambda r: r.training_job,
            "reason": lambda r: r.failure.message or r.reason,
        },
    )


@requests.command("stats")
def count_queue(
    context: typer.Context,
    adapter: str = typer.Option("", help="Only of this adapters/{adapter}."),
    output: Output = OUTPUT,
) -> None:
    """Count what waits and what got stuck, by adapter and kind of feedback."""
    request = pb.GetQueueStatsRequest(adapter=adapter)
    reply = ask(context, lambda selm: selm.feedback.learning.GetQueueStats(request))
    print_messages(
        output,
        reply.stats,
        {
            "adapter": lambda s: s.adapter,
            "kind": lambda s: enum_word(s, "kind"),
            "waiting lessons": lambda s: str(s.waiting_lessons),
            "oldest": lambda s: _span(s, "oldest_age"),
            "waiting requests": lambda s: str(s.waiting_requests),
            "running": lambda s: str(s.running_requests),
            "redelivered": lambda s: str(s.redelivery_count),
            "dead letters": lambda s: str(s.dead_letter_count),
        },
    )


@requests.command("cancel")
def cancel_request(context: typer.Context, name: str = _REQUEST, output: Output = OUTPUT) -> None:
    """Take a request out of the queue, or stop its training; its lessons wait again."""
    request = pb.CancelTrainingRequestRequest(name=name, request_id=new_request_id())
    _run_on_request(context, output, lambda learning: learning.CancelTrainingRequest(request))


@requests.command("priority")
def prioritise_request(
    context: typer.Context,
    name: str = _REQUEST,
    priority: int = typer.Argument(min=-10, max=10, help="Higher first; `-- -5` for less."),
    output: Output = OUTPUT,
) -> None:
    """Change how urgent a waiting request is."""
    wanted = learning_pb2.TrainingRequest(name=name, priority=priority)
    request = pb.UpdateTrainingRequestRequest(training_request=wanted, request_id=new_request_id())
    request.update_mask.paths.append("priority")
    _run_on_request(context, output, lambda learning: learning.UpdateTrainingRequest(request))


@dead_letters.command("ls")
def list_dead_letters(
    context: typer.Context,
    state: list[str] = typer.Option([], help="open, replayed or discarded; open if none."),
    stream: str = typer.Option("", help="Only of this stream, such as FEEDBACK."),
    limit: int = _LIMIT,
    output: Output = OUTPUT,
) -> None:
    """List dead letters, newest first."""
    request = pb.ListDeadLettersRequest(
        stream=stream,
        page_size=limit,
        states=[enum_value(learning_pb2.DeadLetter.State, word) for word in state],
    )

    reply = ask(context, lambda selm: selm.feedback.learning.ListDeadLetters(request))
    print_messages(
        output,
        reply.dead_letters,
        {
            "created": lambda d: when(d.create_time),
            "dead letter": lambda d: d.name,
            "state": lambda d: enum_word(d, "state"),
            "consumer": lambda d: d.consumer,
            "deliveries": lambda d: str(d.delivery_count),
            "error": lambda d: d.failure.message,
        },
    )


@dead_letters.command("replay")
def replay_dead_letters(
    context: typer.Context,
    names: list[str] = typer.Argument(None, help="deadLetters/{dead_letter}; all open if none."),
) -> None:
    """Deliver again what these hold; nothing counts twice."""
    request = pb.ReplayDeadLettersRequest(
        names=names or ["deadLetters/-"], request_id=new_request_id()
    )

    reply = ask_patiently(context, lambda selm: selm.feedback.learning.ReplayDeadLetters(request))
    out.print(f"replayed {reply.replay_count}")


@dead_letters.command("discard")
def discard_dead_letters(
    context: typer.Context,
    names: list[str] = typer.Argument(help="deadLetters/{dead_letter}."),
    reason: str = typer.Option(..., help="Kept for audit."),
) -> None:
    """Give these up; what they carried ends failed."""
    request = pb.DiscardDeadLettersRequest(names=names, reason=reason, request_id=new_request_id())

    reply = ask_patiently(context, lambda selm: selm.feedback.learning.DiscardDeadLetters(request))
    out.print(f"discarded {reply.discard_count}")


def _run_on_request(context: typer.Context, output: Output, call: Callable[[Any], Any]) -> None:
    reply = ask_patiently(context, lambda selm: call(selm.feedback.learning))
    request = reply.training_request
    fields = {
        "request": request.name,
        "state": enum_word(request, "state"),
        "priority": str(request.priority),
        "job": request.training_job,
    }
    print_fields(output, request, fields)


def _print_policy(output: Output, policy: learning_pb2.TrainingPolicy) -> None:
    fields = {
        "policy": policy.name,
        "paused": "yes" if policy.paused else "no",
        "min_lessons": str(policy.min_lessons),
        **{name: _span(policy, name) for name in ("max_lesson_age", "debounce", "cooldown")},
        "daily_budget": _span(policy, "daily_budget") or "unlimited",
        "schedule": policy.schedule or "off",
        "review_required": "yes" if policy.review_required else "no",
        "quorum_authors": str(policy.quorum_authors),
        "max_author_share": f"{policy.max_author_share:g}" if policy.max_author_share else "auto",
        "default_consent": enum_word(policy, "default_consent"),
        "changed": when(policy.update_time),
    }
    print_fields(output, policy, fields)


def _span(message: Message, name: str) -> str:
    if not message.HasField(name):
        return ""
    return f"{getattr(message, name).ToTimedelta().total_seconds():g} s"


def _field(name: str, value: Any) -> Any:
    if name in _SPANS:
        span = Duration()
        span.FromMicroseconds(round(value * 1e6))
        return span
    if name == "default_consent":
        return enum_value(feedback_event_pb2.Consent, value)
    return value
