"""A child's result read into records: the files it made, evaluation, manifest and revision.

The child is ours, but its output crossed a process border: what is missing is an error.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selm.adapter_files import (
    AdapterFilesError,
    Identity,
    identity,
    lessons_sha256,
    read_lessons,
    unpack,
)
from selm.errors import SelmError
from selm.names import LESSON, lesson_name, parse
from trainer_svc.core import (
    ArmResult,
    Artifact,
    Evaluation,
    Failure,
    LoraShape,
    Manifest,
    Revision,
    RevisionState,
    SliceResult,
    Verdict,
    now,
)
from trainer_svc.jobs import Dataset, Start, TrainingJob
from trainer_svc.registry.codec import encode


@dataclass(frozen=True)
class BaseModel:
    """The base model that was trained on."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Made:
    """What the artifact file itself says: digests and the lessons it holds."""

    identity: Identity
    lesson_ids: tuple[str, ...]


def read_artifact(path: Path) -> Made:
    """Opens the artifact as a replica will; blocks. ADAPTER_REJECTED if a replica would refuse."""
    folder = path.parent / "published"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unpack(path, folder)
        held = [parse(LESSON, item.lesson) for item in read_lessons(folder)]
        return Made(identity(folder), tuple(ids[0] for ids in held if ids))
    except (AdapterFilesError, OSError) as error:
        metadata = {"check": "FORMAT"}
        raise SelmError("ADAPTER_REJECTED", str(error), metadata=metadata) from error


def verdict_of(result: Mapping[str, Any]) -> Verdict:
    """The gate's verdict."""
    return Verdict(_need(result, "verdict"))


def evaluation_of(
    job: TrainingJob, dataset: Dataset, made: Made, result: Mapping[str, Any]
) -> Evaluation:
    """The evaluation record; its id is the job's, since a job is judged once."""
    report = {key: result.get(key) for key in ("verdict", "reasons", "slices", "examples")}
    time = now()
    return Evaluation(
        tenant=job.tenant,
        evaluation_id=job.job_id,
        adapter_id=job.adapter_id,
        revision_id=made.identity.revision_id,
        baseline_revision_id=dataset.baseline_revision_id,
        job_id=job.job_id,
        verdict=verdict_of(result),
        reasons=tuple(str(reason) for reason in result.get("reasons", ())),
        slices=tuple(_slice(item) for item in result.get("slices", ())),
        sha256=hashlib.sha256(encode(report)).hexdigest(),
        create_time=time,
        end_time=time,
        lesson_ids=made.lesson_ids,
    )


def revision_of(
    job: TrainingJob,
    dataset: Dataset,
    base: BaseModel,
    made: Made,
    artifact: Artifact,
    evaluation: Evaluation,
    result: Mapping[str, Any],
) -> Revision:
    """The revision record with its manifest."""
    names = [lesson_name(lesson_id) for lesson_id in made.lesson_ids]
    manifest = Manifest(
        weights_sha256=made.identity.weights_sha256,
        config_sha256=made.identity.config_sha256,
        base_model=base.name,
        base_sha256=base.sha256,
        lora=lora_of(result.get("lora_config") or {}),
        dataset_id=dataset.dataset_id,
        dataset_sha256=dataset.sha256,
        lessons_sha256=lessons_sha256(names),
        lesson_count=len(names),
        newest_lesson_time=dataset.newest_lesson_time,
        job_id=job.job_id,
        evaluation_id=evaluation.evaluation_id,
        objective="sft",
        from_base=dataset.start is Start.BASE,
    )
    is_accepted = evaluation.verdict is Verdict.PROMOTE
    return Revision(
        tenant=job.tenant,
        adapter_id=job.adapter_id,
        revision_id=made.identity.revision_id,
        state=RevisionState.ACCEPTED if is_accepted else RevisionState.REJECTED,
        sha256=made.identity.sha256,
        parent_revision_id=dataset.parent_revision_id,
        manifest=manifest,
        artifact=artifact,
        create_time=now(),
        failure=None if is_accepted else gate_failure(evaluation),
    )


def gate_failure(evaluation: Evaluation) -> Failure:
    """Why the gate did not promote."""
    failed = next((s.slice for s in evaluation.slices if s.verdict is not Verdict.PROMOTE), "")
    metadata = {
        "evaluation": f"evaluations/{evaluation.evaluation_id}",
        "verdict": str(evaluation.verdict),
    }
    if failed:
        metadata["slice"] = failed
    why = evaluation.reasons[0] if evaluation.reasons else f"the gate said {evaluation.verdict}"
    return Failure("GATE_FAILED", why, metadata)


def lora_of(values: Mapping[str, Any]) -> LoraShape:
    """The shape in the words of the contract."""
    return LoraShape(
        rank=int(values.get("rank", 0)),
        alpha=float(values.get("alpha", 0.0)),
        dropout=float(values.get("dropout", 0.0)),
        target_modules=tuple(values.get("target_modules", ())),
        layers=tuple(values.get("layers", ())),
    )


def _slice(item: Mapping[str, Any]) -> SliceResult:
    arms = tuple(
        ArmResult(str(arm["arm"]).removeprefix("ARM_"), float(arm["value"]))
        for arm in item.get("arms", ())
    )
    return SliceResult(
        slice=str(item["slice"]).removeprefix("SLICE_"),
        verdict=Verdict(str(item["verdict"]).removeprefix("VERDICT_")),
        threshold=float(item.get("threshold", 0.0)),
        arms=arms,
        example_count=int(item.get("example_count", 0)),
        explanation=str(item.get("explanation", "")),
    )


def _need(result: Mapping[str, Any], key: str) -> str:
    value = result.get(key)
    if not isinstance(value, str) or not value:
        raise SelmError("INTERNAL", f"the training process gave no {key}")
    return value
