"""Rules of a job's life that need no store: cancelling, attempts, verdicts of verification."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from selm.errors import SelmError
from trainer_svc.core import Failure
from trainer_svc.jobs import Attempt, JobState, Order, TrainingJob
from trainer_svc.registry.jobs import job_id_of
from trainer_svc.training.desk import cancelled
from trainer_svc.training.exam import Findings
from trainer_svc.training.report import progress_of

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
JOB = TrainingJob("default", "j1", "default", "q1", JobState.QUEUED, NOON, NOON)
HELD = (Attempt(1, "one", 1, NOON),)


def test_a_waiting_job_is_cancelled_at_once_and_a_held_one_by_its_worker() -> None:
    """CANCELLING until the child is gone."""
    assert cancelled(JOB).state is JobState.CANCELLED
    assert cancelled(replace(JOB, attempts=HELD)).state is JobState.CANCELLING


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.CANCELLING])
def test_cancelling_twice_changes_nothing(state) -> None:
    """Cancelled already is OK."""
    job = replace(JOB, state=state)
    assert cancelled(job) is job


@pytest.mark.parametrize(
    "job",
    [replace(JOB, state=s) for s in (JobState.PUBLISHING, JobState.SUCCEEDED, JobState.FAILED)]
    + [replace(JOB, output_revision_id="r1")],
)
def test_a_job_past_its_verdict_cannot_be_cancelled(job) -> None:
    """What it made may serve already."""
    with pytest.raises(SelmError) as error:
        cancelled(job)

    assert error.value.reason == "STATE_CONFLICT"


def test_an_attempt_ended_by_a_shutdown_is_not_counted() -> None:
    """Rolling updates must not use a job up."""
    drained = Attempt(1, "one", 1, NOON, failure=Failure("DRAINING", "bye"), end_time=NOON)
    lost = Attempt(2, "one", 2, NOON, failure=Failure("LEASE_LOST", "died"), end_time=NOON)
    job = replace(JOB, attempts=(drained, lost, Attempt(3, "two", 3, NOON)))

    assert (job.num_spent_attempts, job.lease_epoch) == (2, 3)


def test_every_delivery_of_a_request_means_the_same_job() -> None:
    """And another tenant's request of the same id another one."""
    order = Order("default", "q1", "default")
    assert job_id_of(order) == job_id_of(replace(order, from_base=True))
    assert job_id_of(order) != job_id_of(replace(order, tenant="other"))


@pytest.mark.parametrize(
    ("is_right", "num_right", "is_proven"),
    [(True, 4, True), (True, 2, True), (True, 1, False), (False, 4, False)],
)
def test_a_lesson_is_proven_by_its_question_and_half_of_the_rewordings(
    is_right, num_right, is_proven
) -> None:
    """The question itself must be right."""
    findings = Findings(is_right, 4, num_right, "no idea", "OUT_OF_SCOPE")

    assert findings.is_proven is is_proven
    assert f"{num_right} of 4 paraphrases right (out_of_scope)" in findings.reason


def test_the_time_left_follows_from_the_share_done() -> None:
    """A line without numbers gives zeros, not errors."""
    assert progress_of({"progress": 0.25, "step": 3}, 10.0).remaining_s == pytest.approx(30.0)
    assert progress_of({}, 10.0).remaining_s == 0.0
