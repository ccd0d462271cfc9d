"""A lesson as it is answered."""

from feedback_svc import learning
from feedback_svc.render.failures import render_lesson_failure
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.lesson_events import transition_of
from selm.lessons import LessonRecord


def render_lesson(record: LessonRecord, job: learning.JobNews | None) -> Lesson:
    """The lesson after its newest step; `job` is the newest that worked on its request."""
    lesson = Lesson(
        name=record.name,
        state=Lesson.State.Value(f"STATE_{record.state}"),
        feedback_event=record.feedback_event,
        kind=pb.FEEDBACK_KIND_CORRECTION,
        generation=record.generation,
        user=record.user,
        author=record.author,
        adapter=record.adapter,
        consent=pb.Consent.ValueType(record.consent),
        question=record.question,
        answer=record.answer,
        subject_key=record.subject_key,
        memory=record.memory,
        training_request=record.training_request,
        training_job=record.training_job or (job.job if job else ""),
        dataset=record.dataset or (job.dataset if job else ""),
        evaluation=record.evaluation or (job.evaluation if job else ""),
        adapter_revision=record.adapter_revision,
        superseded_by=record.superseded_by,
        transitions=[transition_of(step) for step in record.transitions],
    )
    if record.failure:
        lesson.failure.CopyFrom(render_lesson_failure(record))
    lesson.create_time.FromDatetime(record.create_time)
    lesson.update_time.FromDatetime(record.update_time)
    return lesson
