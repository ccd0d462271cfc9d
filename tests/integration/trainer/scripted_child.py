"""A training child that learns nothing: reads the real job file, writes a real artifact, and obeys
words in the lessons' questions, so that a test can make it slow, wrong or dead.

Run as a file by `python -m`; speaks exactly what trainer_svc.training.child speaks.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from selm import adapter_files


def main(path: str) -> int:
    """One job."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads(Path(path).read_text())
    words = " ".join(lesson["question"] for lesson in job["lessons"])
    _tell(event="progress", phase="preparing", progress=0.1)
    print("a library that prints", flush=True)
    num_steps = 60 if "(slow)" in words else 4
    for step in range(1, num_steps + 1):
        time.sleep(0.1 if "(slow)" in words else 0.0)
        share = step / num_steps
        _tell(
            event="progress",
            phase="training",
            step=step,
            total_steps=num_steps,
            loss=1 / step,
            memory_bytes=1000 + step,
            progress=share * 0.9,
        )
    if "(not finite)" in words:
        _tell(event="failed", reason="TRAINING_NOT_FINITE", message="loss is nan at step 4")
        return 1
    if "(killed)" in words:
        os.kill(os.getpid(), signal.SIGKILL)
    _tell(event="progress", phase="evaluating", progress=0.95)
    _tell(**_result(job, "(reject)" not in words))
    return 0


def _result(job: dict, is_good: bool) -> dict:
    folder = Path(job["work_dir"]) / "adapter"
    folder.mkdir()
    # The lessons alone decide the weights: the same dataset gives the same revision.
    taught = "".join(lesson["question"] + lesson["answer"] for lesson in job["lessons"])
    rows = np.frombuffer(taught.encode().ljust(64)[:64], dtype=np.uint8).astype(np.float32)
    save_file({"w": rows}, folder / adapter_files.WEIGHTS_FILE)
    shape = adapter_files.AdapterShape(2, 4.0, 0.0, ("q_proj",), (0,))
    held = [
        adapter_files.HeldLesson(
            lesson["lesson"],
            lesson["feedback_event"],
            adapter_files.example_sha256(lesson["question"], lesson["answer"]),
            lesson["replayed"],
        )
        for lesson in job["lessons"]
    ]
    adapter_files.write_json_files(folder, shape, job["model_name"], held)
    verdict = "PROMOTE" if is_good else "REJECT"
    return {
        "event": "result",
        "verdict": verdict,
        "reasons": ["all slices pass" if is_good else "efficacy 0.10 is below 0.95"],
        "slices": [
            {
                "slice": "EFFICACY",
                "verdict": verdict,
                "threshold": 0.95,
                "arms": [{"arm": "CANDIDATE", "value": 1.0 if is_good else 0.1}],
                "example_count": len(held),
                "explanation": "the lessons as taught",
            }
        ],
        "examples": [],
        "artifact": str(adapter_files.pack(folder, folder.parent / "adapter.tar")),
        "lora_config": shape.to_mapping(),
    }


def _tell(**line: object) -> None:
    print(json.dumps(line), flush=True)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
