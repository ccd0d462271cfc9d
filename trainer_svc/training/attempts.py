"""How often and how long a job may be tried, and when trying again is pointless. Pure."""

from selm.errors import SelmError
from selm.names import training_job_name
from trainer_svc.core import Failure, now
from trainer_svc.jobs import TrainingJob

# Doing the same again gives the same: no further attempt.
HOPELESS = frozenset(
    {
        "ADAPTER_INCOMPATIBLE",
        "ADAPTER_TAINTED",
        "DATASET_EMPTY",
        "DIGEST_MISMATCH",
        "DEVICE_UNSUPPORTED",
        "MESSAGE_TOO_LARGE",
        "STALE_REVISION",
        "STATE_CONFLICT",
        "TIME_BUDGET_EXCEEDED",
        "TRAINING_NOT_FINITE",
    }
)


def budget_s(job: TrainingJob) -> float:
    """Working time left: what earlier attempts took is gone."""
    spent = sum((a.end_time - a.start_time).total_seconds() for a in job.attempts if a.end_time)
    spent += (now() - job.attempts[-1].start_time).total_seconds()
    if spent >= job.max_duration_s:
        raise SelmError(
            "TIME_BUDGET_EXCEEDED",
            f"{training_job_name(job.job_id)} has used its {job.max_duration_s:.0f} s",
            metadata={"max_duration": f"{job.max_duration_s:.0f}s"},
        )
    return job.max_duration_s - spent


def exhausted(job: TrainingJob) -> SelmError:
    """Every worker that held the job died at it."""
    return SelmError(
        "ATTEMPTS_EXHAUSTED",
        f"{training_job_name(job.job_id)} failed {job.max_attempts} times",
        metadata={"attempts": str(job.max_attempts)},
    )


def after_all_attempts(job: TrainingJob, last: Failure) -> Failure:
    """The job's failure after its last attempt failed."""
    metadata = {"attempts": str(job.max_attempts), "last_reason": last.reason}
    message = f"all {job.max_attempts} attempts failed, the last one: {last.message}"
    return Failure("ATTEMPTS_EXHAUSTED", message, metadata)
