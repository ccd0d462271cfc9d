"""Freezing what one job learns from: which lessons, where training starts, and why. Pure rules.

A dataset is decided once per job and never changed; a job that starts again reads it back.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from selm.author_shares import cap_author_share
from selm.errors import SelmError
from selm.lessons import LessonRecord, LessonState, live_lessons
from selm.names import FEEDBACK_EVENT, LESSON, adapter_name, dataset_name, parse
from trainer_svc.core import Revision, now
from trainer_svc.jobs import Dataset, DatasetLesson, OutdatedAnswer, Start, TrainingJob
from trainer_svc.registry.codec import encode
from trainer_svc.training.length import is_too_long

# Proven by a serving revision: a new revision must keep them, not learn them anew.
PROVEN = frozenset({LessonState.VERIFIED, LessonState.RETIRED})
# What was withheld or turned down was never said to be right, so it is not outdated either.
NEVER_TAUGHT = frozenset({LessonState.QUARANTINED, LessonState.REJECTED, LessonState.ERASED})
# Replayed beside new lessons, so that a small round does not wash out what was learned before.
MIN_REPLAYED = 8


@dataclass(frozen=True)
class Serving:
    """What `stable` points to, and the lessons it holds."""

    revision: Revision
    lesson_ids: frozenset[str]
    # It was trained on examples of an erased user.
    is_tainted: bool = False


@dataclass(frozen=True)
class FreezePolicy:
    """Up to `consolidate_below` live lessons every training starts from the base model."""

    consolidate_below: int
    base_sha256: str
    max_sequence_length: int = 1024


def too_long(
    job: TrainingJob,
    records: Sequence[LessonRecord],
    serving: Serving | None,
    policy: FreezePolicy,
) -> list[LessonRecord]:
    """Lessons of the adapter that no training could teach; one that the weights hold is none."""
    held = serving.lesson_ids if serving else frozenset()
    return [
        record
        for record in live_lessons(records, adapter_name(job.adapter_id))
        if record.state not in PROVEN
        and _id(LESSON, record.name) not in held
        and is_too_long(record, policy.max_sequence_length)
    ]


def over_share(
    job: TrainingJob,
    records: Sequence[LessonRecord],
    serving: Serving | None,
    policy: FreezePolicy,
) -> list[LessonRecord]:
    """Lessons that stay out because their author has a full share of the dataset already."""
    if not 0 < job.max_author_share < 1:
        return []
    held = serving.lesson_ids if serving else frozenset()
    excluded = {record.name for record in too_long(job, records, serving, policy)}
    live = live_lessons(records, adapter_name(job.adapter_id))
    # Of an author the first are kept: what the weights hold, then by age.
    ordered = sorted(live, key=lambda record: _id(LESSON, record.name) not in held)
    fit = [record for record in ordered if record.name not in excluded]
    return cap_author_share(fit, lambda record: record.author, job.max_author_share)[1]


def freeze(
    job: TrainingJob,
    records: Sequence[LessonRecord],
    serving: Serving | None,
    policy: FreezePolicy,
) -> Dataset:
    """The dataset of a job; DATASET_EMPTY if there is nothing to learn."""
    live = live_lessons(records, adapter_name(job.adapter_id))
    # Of an excluded lesson the older answer is outdated all the same.
    current = live
    excluded = {
        record.name
        for rule in (too_long, over_share)
        for record in rule(job, records, serving, policy)
    }
    live = [record for record in live if record.name not in excluded]
    start, why = choose_start(job, len(live), serving, policy)
    lessons = tuple(_lesson(record) for record in live)
    _check_worth_training(job, lessons, serving, len(excluded))
    if start is Start.SERVING and serving is not None:
        lessons = with_replay(lessons, serving.lesson_ids, job.job_id)
    superseded = _superseded(records, current, job)
    content = encode({"lessons": lessons, "superseded": superseded, "start": start})
    return Dataset(
        tenant=job.tenant,
        dataset_id=job.job_id,
        adapter_id=job.adapter_id,
        sha256=hashlib.sha256(content).hexdigest(),
        start=start,
        start_reason=why,
        parent_revision_id=serving.revision.revision_id
        if serving and start is Start.SERVING
        else "",
        baseline_revision_id=serving.revision.revision_id if serving else "",
        lessons=lessons,
        superseded=superseded,
        newest_lesson_time=max((record.create_time for record in live), default=None),
        create_time=now(),
    )


def choose_start(
    job: TrainingJob, num_live: int, serving: Serving | None, policy: FreezePolicy
) -> tuple[Start, str]:
    """Where training starts, and why in words. From the base is cleaner, from serving cheaper."""
    if serving is None:
        return Start.BASE, "no revision serves yet"
    if job.from_base:
        return Start.BASE, "the request asked to train from the base model"
    if serving.is_tainted:
        return Start.BASE, "the serving revision holds examples of an erased user"
    if serving.revision.manifest.base_sha256 != policy.base_sha256:
        return Start.BASE, "the serving revision belongs to another base model"
    if num_live <= policy.consolidate_below:
        return Start.BASE, (
            f"{num_live} live lessons, at most {policy.consolidate_below}: "
            "all are trained again from the base model"
        )
    return Start.SERVING, (
        f"{num_live} live lessons, more than {policy.consolidate_below}: "
        "the serving revision is continued with replayed lessons"
    )


def with_replay(
    lessons: tuple[DatasetLesson, ...], held: frozenset[str], seed: str
) -> tuple[DatasetLesson, ...]:
    """Keeps as many held lessons in training as there are new ones, drawn by a fixed hash."""
    old = [lesson for lesson in lessons if not lesson.is_new and lesson.lesson_id in held]
    num_new = len(lessons) - len(old)
    drawn = sorted(old, key=lambda lesson: _draw(seed, lesson))[: max(num_new, MIN_REPLAYED)]
    replayed = {lesson.lesson_id for lesson in drawn}
    return tuple(
        lesson if lesson not in old else _replayed(lesson, is_trained=lesson.lesson_id in replayed)
        for lesson in lessons
    )


def _replayed(lesson: DatasetLesson, *, is_trained: bool) -> DatasetLesson:
    return DatasetLesson(**{**vars(lesson), "is_trained": is_trained})


def _draw(seed: str, lesson: DatasetLesson) -> str:
    return hashlib.sha256(f"{seed}:{lesson.lesson_id}".encode()).hexdigest()


def _lesson(record: LessonRecord) -> DatasetLesson:
    return DatasetLesson(
        lesson_id=_id(LESSON, record.name),
        feedback_event_id=_id(FEEDBACK_EVENT, record.feedback_event),
        question=record.question,
        answer=record.answer,
        paraphrases=record.paraphrases,
        user=record.user,
        is_new=record.state not in PROVEN,
    )


def _superseded(
    records: Sequence[LessonRecord], live: Sequence[LessonRecord], job: TrainingJob
) -> tuple[OutdatedAnswer, ...]:
    answers = {record.subject_key: record.answer for record in live}
    outdated = {
        OutdatedAnswer(record.question, record.answer): None
        for record in sorted(records, key=lambda record: record.sequence)
        if record.adapter == adapter_name(job.adapter_id)
        and record.state not in NEVER_TAUGHT
        and answers.get(record.subject_key, record.answer) != record.answer
    }
    return tuple(outdated)


def _check_worth_training(
    job: TrainingJob,
    lessons: tuple[DatasetLesson, ...],
    serving: Serving | None,
    num_excluded: int,
) -> None:
    metadata = {"dataset": dataset_name(job.job_id), "excluded": str(num_excluded)}
    if not lessons:
        text = f"{adapter_name(job.adapter_id)} has no lesson that may train it"
        raise SelmError("DATASET_EMPTY", text, metadata=metadata)
    held = serving.lesson_ids if serving else frozenset()
    if job.from_base or any(lesson.is_new for lesson in lessons):
        return
    if held == {lesson.lesson_id for lesson in lessons}:
        text = f"the serving revision has learned all {len(lessons)} live lessons already"
        raise SelmError("DATASET_EMPTY", text, metadata=metadata)


def _id(pattern: str, name: str) -> str:
    found = parse(pattern, name)
    return found[0] if found else ""
