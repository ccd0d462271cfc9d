"""The API guide as a program: its grpcurl lines, in order, run against a live stack.

`python -m tests.guide` runs them on the default ports; names come from replies, as for a reader.
"""

import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

GUIDE = Path(__file__).resolve().parents[1] / "proto" / "README.md"
ADDRESSES = {
    "INFERENCE": "localhost:50051",
    "MEMORY": "localhost:50052",
    "FEEDBACK": "localhost:50053",
    "TRAINER": "localhost:50054",
}
# How a reader finds a variable's value in a reply: the first match counts. No backslash: the lines
# of an export are JSON within JSON, where a name would end in one.
NAMES = {
    "GENERATION": r'"(generations/[^"\\]+)"',
    "EVENT": r'"(feedbackEvents/[^"\\]+)"',
    "LESSON": r'"(lessons/[^"\\]+)"',
    "TOKEN": r'"consistencyToken": "([^"]+)"',
    "MEMORY_NAME": r'"(users/[^"/]+/memories/[^"]+)"',
    "REQUEST": r'"(trainingRequests/[^"]+)"',
    "JOB": r'"(trainingJobs/[^"]+)"',
    "EVALUATION": r'"(evaluations/[^"]+)"',
    "ERASURE": r'"(erasures/[^"]+)"',
    "DATASET": r'"(datasets/[^"]+)"',
    "ITEM": r'"(reviewItems/[^"]+)"',
    "REVISION": r'"(adapters/[^"/]+/revisions/r[0-9a-f]{16})"',
}
# Replies that hold their name only after a moment; a reader would ask again.
EVENTUAL = {"GetTrainingRequest": "JOB"}
EVENTUAL_LIMIT_S = 60.0
# The longest step watches a whole training.
STEP_LIMIT_S = 900.0
EXIT_TIMED_OUT = 124
# uuidgen is on most machines; where it is not, the kernel has one.
PRELUDE = "command -v uuidgen >/dev/null || uuidgen() { cat /proc/sys/kernel/random/uuid; }\n"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_METHOD = re.compile(r"\s(\S+\.v\d\w*\.\w+)/(\w+)\s*$")
_EXPECTED = re.compile(r"answers ([A-Z_]+)")


@dataclass(frozen=True)
class Step:
    """One command of the guide."""

    command: str
    line: int
    # `package.Service` and method; empty for list and describe.
    service: str = ""
    method: str = ""
    # The status its comment promises.
    expected: grpc.StatusCode = grpc.StatusCode.OK

    @property
    def expected_exit_code(self) -> int:
        """grpcurl's exit code for that status."""
        return 64 + int(self.expected.value[0]) if self.expected.value[0] else 0


@dataclass(frozen=True)
class Outcome:
    """What a step answered."""

    step: Step
    exit_code: int
    output: str

    @property
    def passed(self) -> bool:
        return self.exit_code == self.step.expected_exit_code


def read_steps(guide: Path = GUIDE) -> list[Step]:
    """Every grpcurl command of the guide, in order."""
    text = guide.read_text(encoding="utf-8")
    steps = []
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 2
        steps += list(_steps_of(block.group(1), line))
    return steps


def _steps_of(block: str, line: int) -> Iterator[Step]:
    comments = "".join(part for part in block.splitlines(True) if part.startswith("#"))
    expected = _EXPECTED.search(comments)
    status = grpc.StatusCode[expected.group(1)] if expected else grpc.StatusCode.OK
    commands = re.split(r"^(?=grpcurl )", block.replace(comments, ""), flags=re.MULTILINE)
    for command in commands:
        if not command.startswith("grpcurl "):
            continue
        method = _METHOD.search(command)
        service, name = method.groups() if method else ("", "")
        yield Step(command.strip(), line, service, name, status)


@dataclass
class Reader:
    """Follows the guide: runs a command, takes names from the reply, goes on."""

    addresses: Mapping[str, str] = field(default_factory=lambda: dict(ADDRESSES))
    names: dict[str, str] = field(default_factory=dict)

    def follow(self, step: Step, *, timeout_s: float = STEP_LIMIT_S) -> Outcome:
        """Runs one step; asks again where a name comes a moment later."""
        wanted = EVENTUAL.get(step.method)
        deadline = time.monotonic() + EVENTUAL_LIMIT_S
        while True:
            outcome = self._run(step, timeout_s)
            missing = wanted and not re.search(NAMES[wanted], outcome.output)
            if not missing or not outcome.passed or time.monotonic() > deadline:
                return outcome
            time.sleep(0.2)

    def _run(self, step: Step, timeout_s: float) -> Outcome:
        environment = {**os.environ, **self.addresses, **self.names}
        scripts = sysconfig.get_path("scripts")
        environment["PATH"] = f"{scripts}{os.pathsep}{environment.get('PATH', '')}"
        try:
            done = subprocess.run(
                ["bash", "-c", PRELUDE + step.command],
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(step, EXIT_TIMED_OUT, f"no end within {timeout_s:g} s")
        for name, pattern in NAMES.items():
            found = re.search(pattern, done.stdout)
            if found:
                self.names[name] = found.group(1)
        return Outcome(step, done.returncode, done.stdout + done.stderr)


def main() -> int:
    """Runs the whole guide and prints one line per step; exit code 1 if any answered otherwise."""
    reader = Reader()
    failed = 0
    for step in read_steps():
        start = time.monotonic()
        outcome = reader.follow(step)
        failed += not outcome.passed
        verdict = "ok" if outcome.passed else f"FAILED ({outcome.exit_code})"
        name = f"{step.service}/{step.method}" if step.method else step.command
        print(f"{verdict:<12} line {step.line:<4} {time.monotonic() - start:6.2f} s  {name}")
        if not outcome.passed:
            print(outcome.output)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
