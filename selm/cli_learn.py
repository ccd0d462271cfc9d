"""`selm train`, `selm jobs`, `selm lessons`: from a correction to the weights."""

from collections.abc import Mapping
from contextlib import aclosing

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from selm.api.feedback.v1 import lesson_pb2, lesson_service_pb2
from selm.api.trainer.v1 import trainer_service_pb2, training_job_pb2
from selm.cli_output import (
    OUTPUT,
    Output,
    ask,
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
from selm.client import SelmClient
from selm.names import DEFAULT_ADAPTER

EXIT_JOB_NOT_SUCCEEDED = 1

jobs = typer.Typer(help="Training jobs.", no_args_is_help=True)
lessons = typer.Typer(help="What corrections became.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Registers these commands."""
    app.command()(train)
    app.add_typer(jobs, name="jobs")
    app.add_typer(lessons, name="lessons")


def train(
    context: typer.Context,
    adapter: str = typer.Option(DEFAULT_ADAPTER, help="adapters/{adapter}."),
    from_base: bool = typer.Option(False, help="Train from the base model on all live lessons."),
    reason: str = typer.Option("", help="Kept with the request."),
    output: Output = OUTPUT,
) -> None:
    """Ask to learn now what waits."""
    request = session(context).run(
        lambda selm: selm.request_training(adapter, from_base=from_base, reason=reason)
    )
    fields = {
        "request": request.name,
        "state": enum_word(request, "state"),
        "lessons": str(request.lesson_count),
        "job": request.training_job,
    }
    print_fields(output, request, fields)


@jobs.command("ls")
def list_jobs(
    context: typer.Context,
    adapter: str = typer.Option("", help="Only of this adapters/{adapter}."),
    limit: int = typer.Option(20, min=1, max=500, help="Newest this many."),
    output: Output = OUTPUT,
) -> None:
    """List training jobs, newest first."""
    request = trainer_service_pb2.ListTrainingJobsRequest(adapter=adapter, page_size=limit)

    reply = ask(context, lambda selm: selm.trainer.service.ListTrainingJobs(request))
    print_messages(
        output,
        reply.training_jobs,
        {
            "job": lambda j: j.name,
            "adapter": lambda j: j.adapter,
            "state": lambda j: enum_word(j, "state"),
            "step": lambda j: f"{j.progress.step}/{j.progress.total_steps}",
            "created": lambda j: when(j.create_time),
            "revision or reason": lambda j: j.failure.message or j.output_revision,
        },
    )


@jobs.command("watch")
def watch_job(
    context: typer.Context,
    name: str = typer.Argument(help="trainingJobs/{training_job}."),
    output: Output = OUTPUT,
) -> None:
    """Follow a job to its end; exit code 1 unless it succeeded."""

    async def follow(selm: SelmClient) -> training_job_pb2.TrainingJob:
        job = training_job_pb2.TrainingJob(name=name)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        with Progress(*columns, TimeElapsedColumn(), console=err) as progress:
            task = progress.add_task("", total=None, note="")
            async with aclosing(selm.watch_job(name)) as frames:
                async for job in frames:
                    at = job.progress
                    progress.update(
                        task,
                        description=enum_word(job, "state").lower(),
                        completed=at.step,
                        total=at.total_steps or None,
                        note=f"step {at.step}, loss {at.loss:.3f}" if at.step else "",
                    )
                    if output is Output.JSON:
                        print_json(job)
        return job

    job = session(context).run(follow)
    if output is Output.TABLE:
        print_fields(output, job, _job_fields(job))
    if job.state != training_job_pb2.TrainingJob.STATE_SUCCEEDED:
        raise typer.Exit(EXIT_JOB_NOT_SUCCEEDED)


@lessons.command("ls")
def list_lessons(
    context: typer.Context,
    state: list[str] = typer.Option(
        [], help=f"{enum_words(lesson_pb2.Lesson.State)}; may be repeated."
    ),
    adapter: str = typer.Option("", help="Only of this adapters/{adapter}."),
    user: str = typer.Option("", help="Only of this users/{user}."),
    limit: int = typer.Option(20, min=1, max=500, help="Last changed this many."),
    output: Output = OUTPUT,
) -> None:
    """List lessons, last changed first."""
    request = lesson_service_pb2.ListLessonsRequest(page_size=limit)
    request.filter.states.extend(enum_value(lesson_pb2.Lesson.State, word) for word in state)
    request.filter.adapter, request.filter.user = adapter, user

    reply = ask(context, lambda selm: selm.feedback.lessons.ListLessons(request))
    print_messages(
        output,
        reply.lessons,
        {
            "changed": lambda lesson: when(lesson.update_time),
            "lesson": lambda lesson: lesson.name,
            "state": lambda lesson: enum_word(lesson, "state"),
            "question": lambda lesson: lesson.question,
            "answer": lambda lesson: lesson.answer,
            "user": lambda lesson: lesson.user,
        },
    )


@lessons.command("get")
def get_lesson(
    context: typer.Context,
    name: str = typer.Argument(help="lessons/{lesson}."),
    output: Output = OUTPUT,
) -> None:
    """Show a lesson with every step so far."""

    request = lesson_service_pb2.GetLessonRequest(name=name)
    reply = ask(context, lambda selm: selm.feedback.lessons.GetLesson(request))
    lesson = reply.lesson
    print_fields(output, lesson, _lesson_fields(lesson))
    if output is Output.TABLE:
        for step in lesson.transitions:
            out.print(Text(_step(step)), soft_wrap=True)


@lessons.command("watch")
def watch_lesson(
    context: typer.Context,
    name: str = typer.Argument(help="lessons/{lesson}."),
    output: Output = OUTPUT,
) -> None:
    """Follow a lesson step by step until it is retired or final."""

    async def follow(selm: SelmClient) -> None:
        printed = 0
        async with aclosing(selm.watch_lesson(name)) as frames:
            async for lesson in frames:
                if output is Output.JSON:
                    print_json(lesson)
                    continue
                for step in lesson.transitions[printed:]:
                    out.print(Text(_step(step)), soft_wrap=True)
                printed = len(lesson.transitions)

    session(context).run(follow)


def _job_fields(job: training_job_pb2.TrainingJob) -> Mapping[str, str]:
    return {
        "job": job.name,
        "state": enum_word(job, "state"),
        "attempts": str(len(job.attempts)),
        "revision": job.output_revision,
        "evaluation": job.evaluation,
        "reason": job.failure.message,
    }


def _lesson_fields(lesson: lesson_pb2.Lesson) -> Mapping[str, str]:
    return {
        "lesson": lesson.name,
        "state": enum_word(lesson, "state"),
        "question": lesson.question,
        "answer": lesson.answer,
        "memory": lesson.memory,
        "job": lesson.training_job,
        "revision": lesson.adapter_revision,
        "reason": lesson.failure.message,
    }


def _step(step: lesson_pb2.LessonTransition) -> str:
    parts = [when(step.transition_time), enum_word(step, "state"), step.service, step.resource]
    return "  ".join(part for part in [*parts, step.reason] if part)
