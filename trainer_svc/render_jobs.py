"""Training jobs to protobuf."""

from selm import names
from selm.api.trainer.v1 import objective_pb2, training_job_pb2
from trainer_svc.jobs import Attempt, Progress, TrainingConfig, TrainingJob
from trainer_svc.render import failure, lora_config, revision_name, timestamp

_PbJob = training_job_pb2.TrainingJob


def training_job(record: TrainingJob) -> training_job_pb2.TrainingJob:
    message = _PbJob(
        name=names.training_job_name(record.job_id),
        adapter=names.adapter_name(record.adapter_id),
        dataset=names.dataset_name(record.dataset_id) if record.dataset_id else "",
        training_request=names.training_request_name(record.request_id),
        config=_config(record.config),
        start=_PbJob.Start.Value(f"START_{record.start or 'UNSPECIFIED'}"),
        start_reason=record.start_reason,
        parent_revision=revision_name(record.adapter_id, record.parent_revision_id),
        max_attempts=record.max_attempts,
        state=_PbJob.State.Value(f"STATE_{record.state}"),
        progress=_progress(record.progress) if record.progress else None,
        attempts=[_attempt(attempt) for attempt in record.attempts],
        evaluation=names.evaluation_name(record.evaluation_id) if record.evaluation_id else "",
        output_revision=revision_name(record.adapter_id, record.output_revision_id),
        failure=failure(record.failure) if record.failure else None,
        create_time=timestamp(record.create_time),
        start_time=timestamp(record.start_time) if record.start_time else None,
        update_time=timestamp(record.update_time),
        end_time=timestamp(record.end_time) if record.end_time else None,
    )
    message.max_duration.FromMilliseconds(round(record.max_duration_s * 1000))
    return message


def _config(record: TrainingConfig) -> objective_pb2.TrainingConfig:
    return objective_pb2.TrainingConfig(
        lora_config=lora_config(record.lora),
        hyperparameters=objective_pb2.Hyperparameters(
            learning_rate=record.learning_rate,
            max_epochs=record.max_epochs,
            batch_size=record.batch_size,
            max_sequence_length=record.max_sequence_length,
            warmup_steps=record.warmup_steps,
            max_gradient_norm=record.max_gradient_norm,
            seed=record.seed,
        ),
        kl_weight=record.kl_weight,
    )


def _progress(record: Progress) -> training_job_pb2.TrainingProgress:
    message = training_job_pb2.TrainingProgress(
        step=record.step,
        total_steps=record.total_steps,
        epoch=record.epoch,
        loss=record.loss,
        kl=record.kl,
        learning_rate=record.learning_rate,
        tokens_per_second=record.tokens_per_second,
        token_accuracy=record.token_accuracy,
        memory_bytes=record.memory_bytes,
        measure_time=timestamp(record.measure_time),
    )
    message.remaining_duration.FromMilliseconds(round(record.remaining_s * 1000))
    return message


def _attempt(record: Attempt) -> training_job_pb2.TrainingAttempt:
    return training_job_pb2.TrainingAttempt(
        number=record.number,
        worker=record.worker,
        lease_epoch=record.lease_epoch,
        peak_memory_bytes=record.peak_memory_bytes,
        failure=failure(record.failure) if record.failure else None,
        start_time=timestamp(record.start_time),
        end_time=timestamp(record.end_time) if record.end_time else None,
    )
