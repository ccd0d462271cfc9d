"""The demo's middle: asks to train, follows every job, and waits until the lessons have settled.

Bounded: what does not settle in time is named in the report, not waited for.
"""

import asyncio
import time
from collections.abc import Iterable
from functools import partial

from rich.progress import Progress, TaskID

from selm.api.feedback.v1 import learning_pb2, learning_service_pb2, lesson_pb2, lesson_service_pb2
from selm.api.inference.v1 import model_pb2, replica_service_pb2
from selm.api.trainer.v1 import training_job_pb2
from selm.client import SelmClient
from selm.demo_report import STATES, Report, Row
from selm.errors import SelmError

POLL_S = 0.25
# All training together, waiting for a worker included.
TRAINING_LIMIT_S = 1800.0
# After the last job: until the lessons are proven on the serving replica, and then retired.
VERIFY_LIMIT_S = 90.0
RETIRE_LIMIT_S = 10.0

_R = learning_pb2.TrainingRequest
FINAL_REQUEST_STATES = frozenset(
    {_R.STATE_SUCCEEDED, _R.STATE_REJECTED, _R.STATE_FAILED, _R.STATE_CANCELLED}
)
_J = training_job_pb2.TrainingJob
_L = lesson_pb2.Lesson
IN_WEIGHTS = frozenset({_L.STATE_VERIFIED, _L.STATE_RETIRED})
ON_THE_WAY = frozenset({_L.STATE_RECEIVED, _L.STATE_QUEUED})
SETTLED = IN_WEIGHTS | {_L.STATE_SUPERSEDED, _L.STATE_FAILED}


class Learning:
    """Follows one run's lessons through whichever requests and jobs carry them."""

    def __init__(self, selm: SelmClient, report: Report, progress: Progress) -> None:
        self._selm = selm
        self._report = report
        self._progress = progress
        self._rows = [row for row in report.rows if row.lesson]
        self._requests: dict[str, int] = {}
        self._found: set[str] = set()
        self._jobs: dict[str, training_job_pb2.TrainingJob] = {}

    async def until_settled(self) -> None:
        """Returns when every lesson is in the weights and serving, or will not be."""
        try:
            async with asyncio.timeout(TRAINING_LIMIT_S):
                await self._train()
        except TimeoutError:
            self._report.notes.append(f"training did not end within {TRAINING_LIMIT_S:g} s")
        await self._until_proven()
        await self._until_serving()

    async def _train(self) -> None:
        """Follows jobs until no request is open and no lesson on its way into one."""
        await self._request_training()
        while True:
            lessons = await self._lessons()
            await self._find_jobs(lessons)
            waiting = sorted(self._found - set(self._jobs))
            if waiting:
                await self._follow(waiting[0])
            elif not self._has_open(lessons):
                return
            else:
                await asyncio.sleep(POLL_S)

    async def _request_training(self) -> None:
        try:
            request = await self._selm.request_training(reason="selm demo")
        except SelmError as error:
            if error.reason != "DATASET_EMPTY":
                raise
            # Nothing waits: the policy asked before us, or everything is learned already.
            return
        self._requests[request.name] = request.state

    async def _lessons(self) -> list[lesson_pb2.Lesson]:
        """The lessons as they stand, noted in their rows."""
        lessons = []
        for row in self._rows:
            lookup = partial(
                self._selm.feedback.lessons.GetLesson,
                lesson_service_pb2.GetLessonRequest(name=row.lesson),
            )
            lesson = (await self._selm.patience.through(lookup)).lesson
            _note(row, lesson)
            lessons.append(lesson)
        return lessons

    async def _find_jobs(self, lessons: Iterable[lesson_pb2.Lesson]) -> None:
        """Looks up which requests and jobs carry these lessons now."""
        names = {lesson.training_request for lesson in lessons if lesson.training_request}
        self._found |= {lesson.training_job for lesson in lessons if lesson.training_job}
        for name in sorted(names | set(self._requests)):
            if self._requests.get(name) in FINAL_REQUEST_STATES:
                continue
            lookup = partial(
                self._selm.feedback.learning.GetTrainingRequest,
                learning_service_pb2.GetTrainingRequestRequest(name=name),
            )
            request = (await self._selm.patience.through(lookup)).training_request
            self._requests[name] = request.state
            self._found |= {request.training_job} - {""}

    def _has_open(self, lessons: Iterable[lesson_pb2.Lesson]) -> bool:
        """True while a request is not final or a lesson is still on its way into one."""
        return any(state not in FINAL_REQUEST_STATES for state in self._requests.values()) or any(
            lesson.state in ON_THE_WAY for lesson in lessons
        )

    async def _follow(self, name: str) -> None:
        task = self._bar("training", None)
        job = _J(name=name)
        async for job in self._selm.watch_job(name):
            at = job.progress
            state = _J.State.Name(job.state).removeprefix("STATE_")
            self._progress.update(
                task,
                completed=at.step,
                total=at.total_steps or None,
                note=f"{state.lower()} loss {at.loss:.3f}" if at.step else state.lower(),
            )
        # Training may stop early: the bar ends where it ended.
        steps = job.progress.step or 1
        self._progress.update(task, total=steps, completed=steps)
        self._jobs[name] = job
        self._report.jobs.append(_described(job))
        if job.failure.message:
            self._report.notes.append(f"{name}: {job.failure.message}")

    async def _until_proven(self) -> None:
        """Waits for VERIFIED, then a little for RETIRED; says which lessons stayed behind."""
        if not self._rows:
            return
        task = self._bar("lessons proven", len(self._rows))
        verify_limit = time.monotonic() + VERIFY_LIMIT_S
        retire_limit = verify_limit
        trained = bool(self._succeeded())
        while True:
            lessons = await self._lessons()
            proven = sum(lesson.state in IN_WEIGHTS for lesson in lessons)
            self._progress.update(task, completed=proven)
            now = time.monotonic()
            if all(lesson.state in SETTLED for lesson in lessons):
                retire_limit = min(retire_limit, now + RETIRE_LIMIT_S)
                if all(lesson.state != _L.STATE_VERIFIED for lesson in lessons):
                    break
            if not trained or now >= min(verify_limit, retire_limit):
                break
            await asyncio.sleep(POLL_S)
        self._name_stragglers()

    def _name_stragglers(self) -> None:
        """One note per state and reason, so that twelve of a kind take one line."""
        behind: dict[tuple[str, str], list[str]] = {}
        for row in self._rows:
            if row.state not in ("VERIFIED", "RETIRED"):
                behind.setdefault((row.state, row.state_reason), []).append(row.lesson)
        for (state, reason), names in behind.items():
            because = f" ({reason})" if reason else ""
            self._report.notes.append(
                f"{len(names)} of {len(self._rows)} lessons stayed {state}{because}: "
                + ", ".join(names)
            )

    async def _until_serving(self) -> None:
        """Waits until the answering replica has loaded what the last successful job made."""
        wanted = self._succeeded()
        if not wanted:
            return
        limit = time.monotonic() + VERIFY_LIMIT_S
        while time.monotonic() < limit:
            response = await self._selm.patience.through(
                lambda: self._selm.inference.replica.ListLoadedAdapters(
                    replica_service_pb2.ListLoadedAdaptersRequest(
                        states=[model_pb2.LoadedAdapter.STATE_ACTIVE]
                    )
                )
            )
            if wanted[-1] in {loaded.adapter_revision for loaded in response.loaded_adapters}:
                return
            await asyncio.sleep(POLL_S)
        self._report.notes.append(f"{wanted[-1]} is not loaded on the answering replica")

    def _succeeded(self) -> list[str]:
        """Revisions of the jobs that the gate let through, oldest first."""
        jobs = self._jobs.values()
        return [job.output_revision for job in jobs if job.state == _J.STATE_SUCCEEDED]

    def _bar(self, description: str, total: int | None) -> TaskID:
        return self._progress.add_task(f"{description:<16}", total=total, note="")


def _note(row: Row, lesson: lesson_pb2.Lesson) -> None:
    row.state = _L.State.Name(lesson.state).removeprefix("STATE_")
    reason = lesson.transitions[-1].reason if lesson.transitions else ""
    row.state_reason = lesson.failure.message or reason
    start = lesson.create_time.ToNanoseconds()
    for step in lesson.transitions:
        state = _L.State.Name(step.state).removeprefix("STATE_")
        if state in STATES:
            # The last time it got there: a step back and forth again counts to its end.
            seconds = (step.transition_time.ToNanoseconds() - start) / 1e9
            row.state_s[state] = round(seconds, 3)


def _described(job: training_job_pb2.TrainingJob) -> dict[str, object]:
    running = job.end_time.ToNanoseconds() - job.start_time.ToNanoseconds()
    return {
        "name": job.name,
        "state": _J.State.Name(job.state).removeprefix("STATE_"),
        "attempts": len(job.attempts),
        "steps": job.progress.step,
        "loss": job.progress.loss,
        "seconds": round(running / 1e9, 3),
        "output_revision": job.output_revision,
        "failure": job.failure.message,
    }
