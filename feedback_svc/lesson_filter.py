"""Which lessons fit a filter. Pure."""

from feedback_svc import learning


def matches_lesson(view: learning.LessonView, wanted: learning.LessonFilter) -> bool:
    """All conditions hold; a job is the lesson's own, or the newest that works on its request."""
    lesson, job = view
    training_job = lesson.training_job or (job.job if job else "")
    return (
        (not wanted.states or lesson.state in wanted.states)
        and wanted.adapter in ("", lesson.adapter)
        and wanted.adapter_revision in ("", lesson.adapter_revision)
        and wanted.user in ("", lesson.user)
        and wanted.training_job in ("", training_job)
    )
