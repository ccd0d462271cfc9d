"""A whole job in its child process, on a tiny model."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from selm import adapter_files
from selm.errors import SelmError
from tests.unit.trainer.tiny_lessons import FACTS
from trainer_svc.training.child import PARENT_GONE, failure_of
from trainer_svc.training.job import run_job

COMMAND = [sys.executable, "-m", "trainer_svc.training.child"]
# Nearly without replays: a random model has little room to keep its answers and learn others.
CONFIG = {
    "learning_rate": 0.005,
    "max_epochs": 120,
    "variant_share": 1e-9,
    "kl_weight": 0,
    "num_generic_replays": 2,
    "num_near_replays": 2,
}


def job_file(tiny_learner: Path, folder: Path, **changes: Any) -> Path:
    """A job over three invented facts."""
    folder.mkdir(parents=True, exist_ok=True)
    lessons = [
        {
            "lesson": f"lessons/{number}",
            "feedback_event": f"feedbackEvents/{number}",
            "question": question,
            "answer": answer,
            "paraphrases": [],
            "replayed": False,
            "round": "new",
        }
        for number, (question, answer) in enumerate(FACTS)
    ]
    job = {
        "base_model": str(tiny_learner),
        "base_sha256": "0" * 64,
        "model_name": "models/tiny",
        "device": "cpu",
        "dtype": "float32",
        "num_threads": 1,
        "seed": 0,
        "work_dir": str(folder),
        "config": CONFIG,
        "parent_artifact": None,
        "baseline_artifact": None,
        "lessons": lessons,
        "superseded": [],
        "gate": {"min_unrelated_tokens": 0.0, "min_paraphrase": 0.0},
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job | changes))
    return path


def run(path: Path) -> list[dict[str, Any]]:
    """Every line the child wrote; its stdin stays open until it ends."""
    child = subprocess.Popen([*COMMAND, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    lines = [json.loads(line) for line in child.stdout]
    child.wait()
    assert child.stdin is not None
    child.stdin.close()
    return lines


def test_a_job_ends_with_a_judged_artifact_and_the_next_round_continues_it(
    tiny_learner: Path, tmp_path: Path
) -> None:
    """Phases in order, then verdict, digests and a tar that unpacks to the lessons it holds."""
    *progress, result = run(job_file(tiny_learner, tmp_path / "one"))
    phases = list(dict.fromkeys(line["phase"] for line in progress))
    shares = [line["progress"] for line in progress]

    assert result["event"] == "result"
    assert result["verdict"] == "PROMOTE", result["reasons"]
    assert phases == ["preparing", "training", "evaluating"]
    assert shares == sorted(shares)
    folder = adapter_files.unpack(Path(result["artifact"]), tmp_path / "out")
    assert adapter_files.identity(folder).sha256 == result["sha256"]
    assert len(adapter_files.read_lessons(folder)) == len(FACTS)

    new = json.loads((tmp_path / "one" / "job.json").read_text())["lessons"]
    old = [item | {"round": "old", "replayed": True} for item in new[:2]]
    new = [new[2] | {"lesson": "lessons/9", "question": "Who rules Tash?", "answer": "Nobody"}]
    second = job_file(
        tiny_learner,
        tmp_path / "two",
        lessons=old + new,
        config=CONFIG | {"max_epochs": 20, "min_steps": 1},
        parent_artifact=result["artifact"],
        baseline_artifact=result["artifact"],
        superseded=[{"question": "Who rules Tash?", "answer": "Everybody"}],
    )
    outcome = run(second)[-1]
    slices = {item["slice"]: item for item in outcome["slices"]}

    assert {arm["arm"]: arm["value"] for arm in slices["RETENTION"]["arms"]}["BASELINE"] == 1.0
    assert slices["SUPERSEDED"]["example_count"] == 1
    assert outcome["lora_config"] == result["lora_config"]
    assert outcome["sha256"] != result["sha256"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"lessons": []}, "no lesson"),
        ({"config": {"learning_rate": 5}}, "learning_rate"),
        ({"gate": {"min_paraphras": 0.5}}, "unknown gate thresholds"),
        ({"parent_artifact": "/nowhere.tar"}, "nowhere"),
    ],
)
def test_a_job_that_cannot_be_done_says_why(
    tiny_learner: Path, tmp_path: Path, changes: dict[str, Any], error: str
) -> None:
    """Before anything is trained."""
    values = json.loads(job_file(tiny_learner, tmp_path, **changes).read_text())

    with pytest.raises(Exception, match=error):
        run_job(values, lambda line: None)


def test_a_failed_job_ends_with_one_line_that_gives_the_reason(tmp_path: Path) -> None:
    """Also when the job file itself is unreadable."""
    (tmp_path / "job.json").write_text("{")
    (last,) = run(tmp_path / "job.json")

    assert (last["event"], last["reason"]) == ("failed", "INTERNAL")


def test_weights_that_go_wild_are_never_promoted(tiny_learner: Path, tmp_path: Path) -> None:
    """The learning rate is far too high: not finite, or rejected."""
    config = CONFIG | {"learning_rate": 0.1, "max_gradient_norm": 1e30, "max_epochs": 20}
    values = json.loads(job_file(tiny_learner, tmp_path, config=config, gate={}).read_text())
    try:
        verdict = run_job(values, lambda line: None)["verdict"]
    except (SelmError, FloatingPointError) as error:
        verdict = failure_of(error)["reason"]

    assert verdict in ("REJECT", "TRAINING_NOT_FINITE")


def test_the_child_ends_when_its_parent_is_gone(tiny_learner: Path, tmp_path: Path) -> None:
    """A closed stdin ends it in the middle of the work."""
    child = subprocess.Popen(
        [*COMMAND, str(job_file(tiny_learner, tmp_path))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    child.stdout.readline()
    child.stdin.close()

    assert child.wait(timeout=60) == PARENT_GONE


def test_termination_ends_the_child_at_once(tiny_learner: Path, tmp_path: Path) -> None:
    """Cancelling a job needs no co-operation of the loop."""
    child = subprocess.Popen(
        [*COMMAND, str(job_file(tiny_learner, tmp_path))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGTERM)

    assert child.wait(timeout=60) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FloatingPointError("nan"), "TRAINING_NOT_FINITE"),
        (MemoryError(), "TRAINING_OUT_OF_MEMORY"),
        (OSError(28, "No space left on device"), "DISK_FULL"),
        (adapter_files.AdapterFilesError("odd"), "ADAPTER_INCOMPATIBLE"),
        (KeyError("work_dir"), "INTERNAL"),
    ],
)
def test_every_failure_has_a_published_reason(error: Exception, reason: str) -> None:
    """The trainer branches on it."""
    assert failure_of(error)["reason"] == reason
