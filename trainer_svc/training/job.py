"""One job from its file to its result: load, train, save, evaluate, judge.

The plain data of a job comes in and goes out here; everything between is typed.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from selm import adapter_files
from selm.base_model import load_model
from selm.errors import SelmError
from trainer_svc.training import evaluate, gates, lora
from trainer_svc.training.body import Body
from trainer_svc.training.data import Encoder, Lesson, Lessons
from trainer_svc.training.loop import Outcome, Step, train
from trainer_svc.training.recipe import LoraShape, Recipe
from trainer_svc.training.replays import make_replays

MIN_REPORT_INTERVAL_S = 0.25
# How the share done is divided, as measured for a round of a dozen lessons.
_PREPARED, _TRAINED = 0.2, 0.65

Line = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """What a job file says."""

    base_model: Path
    base_sha256: str
    model_name: str
    device: str
    dtype: str
    num_threads: int
    work_dir: Path
    cache_dir: Path
    recipe: Recipe
    parent_artifact: Path | None
    baseline_artifact: Path | None
    lessons: tuple[Lesson, ...]
    outdated: tuple[evaluate.Outdated, ...]
    thresholds: gates.Thresholds

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Job:
        """Reads a job file; unknown recipe and gate settings are refused."""
        work_dir = Path(values["work_dir"])
        return cls(
            base_model=Path(values["base_model"]),
            base_sha256=values["base_sha256"],
            model_name=values["model_name"],
            device=values.get("device") or "cpu",
            dtype=values.get("dtype") or "float32",
            num_threads=int(values.get("num_threads") or 2),
            work_dir=work_dir,
            cache_dir=Path(values.get("cache_dir") or work_dir.parent),
            recipe=Recipe.from_mapping(values.get("config") or {}, seed=values.get("seed") or 0),
            parent_artifact=_path(values.get("parent_artifact")),
            baseline_artifact=_path(values.get("baseline_artifact")),
            lessons=tuple(Lesson.from_mapping(item) for item in values["lessons"]),
            outdated=tuple(
                evaluate.Outdated(item["question"], item["answer"])
                for item in values.get("superseded") or ()
            ),
            thresholds=gates.Thresholds.from_mapping(values.get("gate") or {}),
        )


class Reporter:
    """Progress lines, at most four a second; a new phase is always told."""

    def __init__(self, write: Line, device: str) -> None:
        self._write = write
        self._device = device
        self._last_time = 0.0
        self._phase = ""
        self._known: dict[str, Any] = {}

    def tell(self, phase: str, progress: float, **known: float) -> None:
        """One line, with the latest training numbers repeated in later phases."""
        self._known.update(known)
        now = time.monotonic()
        if phase == self._phase and now - self._last_time < MIN_REPORT_INTERVAL_S:
            return
        self._phase, self._last_time = phase, now
        line = {"event": "progress", "phase": phase, "progress": round(progress, 4)}
        self._write(line | self._known | {"memory_bytes": _memory_bytes(self._device)})


def run_job(values: Mapping[str, Any], write: Line) -> dict[str, Any]:
    """Trains and judges; the result line's content. SelmError with its reason if it cannot."""
    job = Job.from_mapping(values)
    reporter = Reporter(write, job.device)
    reporter.tell("preparing", 0.0)
    _make_repeatable(job)
    model, tokenizer = load_model(job.base_model, job.dtype, job.device)
    encoder = Encoder(tokenizer, max_length=job.recipe.max_sequence_length)
    shape, peft_model, lowest = _attach_arms(job, model)
    body = Body(model, encoder.prefix, lowest)
    reporter.tell("preparing", 0.05)

    rows, trained_on, left_out = _select(job, encoder)
    outcome = _train(job, body, peft_model, encoder, rows, reporter)
    held = [lesson for lesson in job.lessons if lesson not in left_out]
    folder = job.work_dir / "adapter"
    lora.save(peft_model, shape, job.model_name, map(_held, held), folder)
    artifact = adapter_files.pack(folder, job.work_dir / "adapter.tar")
    body.forget()

    reporter.tell("evaluating", _TRAINED)
    arms = [gates.BASE, *([gates.BASELINE] if job.baseline_artifact else []), gates.CANDIDATE]
    peft_model.eval()
    measured = evaluate.evaluate(
        body,
        peft_model,
        encoder,
        job.lessons,
        job.outdated,
        arms,
        _cache_file(job),
        lambda done: reporter.tell("evaluating", _TRAINED + (1 - _TRAINED) * done),
    )
    decision = gates.judge(measured, job.thresholds)
    return {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "slices": [result.to_mapping() for result in decision.slices],
        "examples": [asdict(example) for example in _failed_first(measured.examples)],
        "artifact": str(artifact),
        **asdict(adapter_files.identity(folder)),
        "lora_config": shape.to_mapping(),
        "training": asdict(outcome)
        | {"num_lessons": len(trained_on), "num_left_out": len(left_out)},
    }


def _make_repeatable(job: Job) -> None:
    torch.set_num_threads(job.num_threads)
    torch.manual_seed(job.recipe.seed)
    if job.device == "cpu":
        torch.use_deterministic_algorithms(True)
        # Only hides reads of memory never written, at a cost for each new tensor.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _attach_arms(job: Job, model: Any) -> tuple[LoraShape, Any, int]:
    """The candidate, fresh or continued, and what serves; and the lowest layer either changes."""
    num_layers = model.config.num_hidden_layers
    parent = _unpacked(job, job.parent_artifact, "parent")
    baseline = _unpacked(job, job.baseline_artifact, "baseline")
    shape = job.recipe.lora.resolve(num_layers)
    if parent:
        shape = _continued_shape(job, shape, lora.saved_shape(parent), num_layers)
    peft_model = lora.attach(model, shape, job.recipe.seed)
    if parent:
        lora.load(peft_model, parent, gates.CANDIDATE)
    lowest = min(shape.layers)
    if baseline:
        served = lora.saved_shape(baseline).resolve(num_layers)
        lora.add(peft_model, served, gates.BASELINE)
        lora.load(peft_model, baseline, gates.BASELINE)
        lowest = min(lowest, *served.layers)
    return shape, peft_model, lowest


def _continued_shape(job: Job, asked: LoraShape, saved: LoraShape, num_layers: int) -> LoraShape:
    if job.recipe.lora != LoraShape() and asked != saved:
        raise SelmError("ADAPTER_INCOMPATIBLE", "the parent revision has another LoRA shape")
    return saved.resolve(num_layers)


def _unpacked(job: Job, artifact: Path | None, name: str) -> Path | None:
    if artifact is None:
        return None
    folder = job.work_dir / name
    for file in folder.glob("*") if folder.is_dir() else ():
        file.unlink()  # of an earlier attempt
    return adapter_files.unpack(artifact, folder)


def _select(job: Job, encoder: Encoder) -> tuple[Lessons, list[Lesson], list[Lesson]]:
    """What is trained: the round and the replayed; everything if there is no parent to hold it."""
    continues = job.parent_artifact is not None
    wanted = [item for item in job.lessons if item.is_new or item.replayed or not continues]
    rows = Lessons(wanted, encoder)
    if not rows.rows:
        raise SelmError("DATASET_EMPTY", "no lesson is left to train on")
    left_out = [lesson for lesson in wanted if lesson not in rows.lessons]
    return rows, rows.lessons, left_out


def _train(
    job: Job, body: Body, peft_model: Any, encoder: Encoder, rows: Lessons, reporter: Reporter
) -> Outcome:
    reporter.tell("preparing", 0.06)
    with lora.speaking_as(peft_model, gates.BASE):
        replays = make_replays(body, encoder, rows.lessons, job.recipe, _cache_file(job))
    reporter.tell("training", _PREPARED)

    def tell(step: Step) -> None:
        done = _PREPARED + (_TRAINED - _PREPARED) * step.step / step.total_steps
        reporter.tell("training", done, **asdict(step))

    peft_model.train()
    return train(body, lora.trainable(peft_model), rows, replays, job.recipe, tell)


def _held(lesson: Lesson) -> adapter_files.HeldLesson:
    digest = adapter_files.example_sha256(lesson.question, lesson.answer)
    return adapter_files.HeldLesson(lesson.lesson, lesson.feedback_event, digest, lesson.replayed)


def _failed_first(examples: Sequence[gates.Example]) -> list[gates.Example]:
    return sorted(examples, key=lambda example: example.passed[gates.CANDIDATE])


def _cache_file(job: Job) -> Path:
    return job.cache_dir / f"base_answers-{job.base_sha256[:16]}-{job.dtype}.json"


def _memory_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes on Linux


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None
