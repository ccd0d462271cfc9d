"""Core to protobuf, and revisions back: the registry stores those in the contract's encoding."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from selm import names
from selm.api.adapter.v1 import adapter_pb2, adapter_revision_pb2
from selm.api.error.v1 import error_reason_pb2
from selm.api.trainer.v1 import evaluation_pb2
from trainer_svc.core import (
    Adapter,
    Alias,
    Artifact,
    Evaluation,
    Failure,
    LoraShape,
    Manifest,
    Revision,
    RevisionState,
    SliceResult,
)

SCHEMA_VERSION = 1
_PbState = adapter_revision_pb2.AdapterRevision.State


def adapter(record: Adapter) -> adapter_pb2.Adapter:
    message = adapter_pb2.Adapter(
        name=names.adapter_name(record.adapter_id),
        display_name=record.display_name,
        base_model=record.base_model,
        aliases=[alias(item) for item in record.aliases],
    )
    message.create_time.CopyFrom(timestamp(record.create_time))
    message.update_time.CopyFrom(timestamp(record.update_time))
    return message


def alias(record: Alias) -> adapter_pb2.Alias:
    message = adapter_pb2.Alias(
        name=names.alias_name(record.adapter_id, record.alias_id),
        adapter_revision=revision_name(record.adapter_id, record.revision_id),
        previous_revision=revision_name(record.adapter_id, record.previous_revision_id),
        sha256=record.sha256,
        scope_mode=adapter_pb2.ScopeMode.Value(f"SCOPE_MODE_{record.scope_mode}"),
        epoch=record.epoch,
        updater=record.updater,
        reason=record.reason,
    )
    message.update_time.CopyFrom(timestamp(record.update_time))
    return message


def revision(record: Revision, owner: Adapter | None = None) -> Any:
    """With its owner at hand, the aliases that point here now are filled in."""
    message = adapter_revision_pb2.AdapterRevision(
        name=names.revision_name(record.adapter_id, record.revision_id),
        state=_PbState.Value(f"STATE_{record.state}"),
        sha256=record.sha256,
        parent_revision=revision_name(record.adapter_id, record.parent_revision_id),
        manifest=_manifest(record.manifest),
        artifact=adapter_revision_pb2.Artifact(**vars(record.artifact)),
        failure=failure(record.failure) if record.failure else None,
    )
    if owner is not None:
        pointing = (a.alias_id for a in owner.aliases if a.revision_id == record.revision_id)
        message.alias_ids.extend(pointing)
    message.create_time.CopyFrom(timestamp(record.create_time))
    return message


def encode_revision(record: Revision) -> bytes:
    """The bytes of bucket `revisions`, which inference reads."""
    encoded: bytes = revision(record).SerializeToString(deterministic=True)
    return encoded


def decode_revision(tenant: str, data: bytes) -> Revision:
    """The record of those bytes; they do not repeat the tenant, their key names it."""
    message = adapter_revision_pb2.AdapterRevision.FromString(data)
    adapter_id, revision_id = names.parse(names.REVISION, message.name) or ("", "")
    return Revision(
        tenant=tenant,
        adapter_id=adapter_id,
        revision_id=revision_id,
        state=RevisionState(_PbState.Name(message.state).removeprefix("STATE_")),
        sha256=message.sha256,
        parent_revision_id=message.parent_revision.rpartition("/")[2],
        manifest=_manifest_of(message.manifest),
        artifact=Artifact(
            message.artifact.uri, message.artifact.sha256, message.artifact.size_bytes
        ),
        create_time=moment(message.create_time),
        failure=failure_of(message.failure) if message.HasField("failure") else None,
    )


def evaluation(record: Evaluation) -> evaluation_pb2.Evaluation:
    message = evaluation_pb2.Evaluation(
        name=names.evaluation_name(record.evaluation_id),
        adapter_revision=names.revision_name(record.adapter_id, record.revision_id),
        baseline_revision=revision_name(record.adapter_id, record.baseline_revision_id),
        state=evaluation_pb2.Evaluation.STATE_COMPLETED,
        verdict=evaluation_pb2.Verdict.Value(f"VERDICT_{record.verdict}"),
        reasons=record.reasons,
        slices=[_slice(item) for item in record.slices],
        training_job=names.training_job_name(record.job_id),
        sha256=record.sha256,
    )
    message.create_time.CopyFrom(timestamp(record.create_time))
    message.end_time.CopyFrom(timestamp(record.end_time))
    return message


def failure(record: Failure) -> error_reason_pb2.Failure:
    """A reason of a newer trainer reads as INTERNAL; its message still says what it was."""
    name = f"ERROR_REASON_{record.reason}"
    if name not in set(error_reason_pb2.ErrorReason.keys()):
        name = "ERROR_REASON_INTERNAL"
    message = error_reason_pb2.Failure(
        reason=error_reason_pb2.ErrorReason.Value(name),
        message=record.message,
        metadata=dict(record.metadata),
        retryable=record.retryable,
    )
    message.time.CopyFrom(timestamp(record.time))
    return message


def failure_of(message: Any) -> Failure:
    """The record of a failure that was told on the bus."""
    return Failure(
        error_reason_pb2.ErrorReason.Name(message.reason).removeprefix("ERROR_REASON_"),
        message.message,
        dict(message.metadata),
        message.retryable,
        moment(message.time),
    )


def lora_config(shape: LoraShape) -> adapter_revision_pb2.LoraConfig:
    return adapter_revision_pb2.LoraConfig(
        rank=shape.rank,
        alpha=shape.alpha,
        dropout=shape.dropout,
        target_modules=shape.target_modules,
        layers=shape.layers,
    )


def revision_name(adapter_id: str, revision_id: str) -> str:
    """The revision's name, or "" for none."""
    return names.revision_name(adapter_id, revision_id) if revision_id else ""


def timestamp(value: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(value)
    return message


def moment(value: Timestamp) -> datetime:
    found: datetime = value.ToDatetime(tzinfo=UTC)
    return found


def _manifest(record: Manifest) -> adapter_revision_pb2.Manifest:
    message = adapter_revision_pb2.Manifest(
        schema_version=SCHEMA_VERSION,
        weights_sha256=record.weights_sha256,
        config_sha256=record.config_sha256,
        base_model=record.base_model,
        base_sha256=record.base_sha256,
        lora_config=lora_config(record.lora),
        dataset=names.dataset_name(record.dataset_id),
        dataset_sha256=record.dataset_sha256,
        lessons_sha256=record.lessons_sha256,
        lesson_count=record.lesson_count,
        training_job=names.training_job_name(record.job_id),
        evaluation=names.evaluation_name(record.evaluation_id),
        objective=record.objective,
        from_base=record.from_base,
    )
    if record.newest_lesson_time is not None:
        message.newest_lesson_time.CopyFrom(timestamp(record.newest_lesson_time))
    return message


def _manifest_of(message: Any) -> Manifest:
    shape = message.lora_config
    has_lessons = message.HasField("newest_lesson_time")
    return Manifest(
        weights_sha256=message.weights_sha256,
        config_sha256=message.config_sha256,
        base_model=message.base_model,
        base_sha256=message.base_sha256,
        lora=LoraShape(
            shape.rank,
            shape.alpha,
            shape.dropout,
            tuple(shape.target_modules),
            tuple(shape.layers),
        ),
        dataset_id=message.dataset.rpartition("/")[2],
        dataset_sha256=message.dataset_sha256,
        lessons_sha256=message.lessons_sha256,
        lesson_count=message.lesson_count,
        newest_lesson_time=moment(message.newest_lesson_time) if has_lessons else None,
        job_id=message.training_job.rpartition("/")[2],
        evaluation_id=message.evaluation.rpartition("/")[2],
        objective=message.objective,
        from_base=message.from_base,
    )


def _slice(record: SliceResult) -> evaluation_pb2.SliceResult:
    return evaluation_pb2.SliceResult(
        slice=_value(evaluation_pb2.Slice, "SLICE_", record.slice),
        verdict=evaluation_pb2.Verdict.Value(f"VERDICT_{record.verdict}"),
        threshold=record.threshold,
        arms=[
            evaluation_pb2.ArmResult(
                arm=_value(evaluation_pb2.Arm, "ARM_", arm.arm), value=arm.value
            )
            for arm in record.arms
        ],
        example_count=record.example_count,
        explanation=record.explanation,
    )


def _value(enum: Any, prefix: str, name: str) -> Any:
    """The enum's value, unspecified for a name that this release does not know."""
    known = set(enum.keys())
    return enum.Value(f"{prefix}{name}" if f"{prefix}{name}" in known else f"{prefix}UNSPECIFIED")
