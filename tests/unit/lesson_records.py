"""A lesson for tests that need one; each of them replaces what it cares about."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from selm.lessons import Consent, LessonRecord

START = datetime(2030, 1, 1, tzinfo=UTC)
LESSON = LessonRecord(
    tenant="default",
    name="lessons/l1",
    feedback_event="feedbackEvents/e1",
    sequence=1,
    generation="generations/g",
    user="users/ada",
    author="anonymous",
    adapter="adapters/default",
    consent=Consent.SHARED_ADAPTER,
    question="What is it?",
    answer="A lamp.",
    paraphrases=(),
    subject_key="what is it",
    create_time=START,
    update_time=START,
)


def numbered(number: int, **changes: Any) -> LessonRecord:
    """One of many, by name, event and place."""
    one = replace(
        LESSON,
        name=f"lessons/l{number}",
        feedback_event=f"feedbackEvents/e{number}",
        sequence=number,
    )
    return replace(one, **changes)
