"""`python -m tests.bench.feedback`: how fast feedback becomes durable, one line of JSON each.

selm      CreateFeedbackEvent of a rating with a request id, on feedback_svc as a process
bare      plain nats-py publishes messages of that size to the same nats-server, one by one or many
          at once; its best rate of a round is what the broker gives without us
celery    task.delay on Redis, which syncs every write; a worker keeps each in a Redis list
All sync to disk before they acknowledge. In each round each takes its turn at each concurrency, in
an order that rotates; ratios are of one round, and their median is told. The first round is not
counted. Lastly batches and GetFeedbackEvent are measured.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench.feedback_load import BATCH_ITEMS
from tests.bench.feedback_process import LineProcess
from tests.bench.feedback_redis import classic_stack, find_redis, requirements
from tests.bench.feedback_stack import FeedbackStack, feedback_stack, stored_bytes
from tests.bench.memory_peers import PeerError

# CreateFeedbackEvent at 64 calls at once, as a share of the best bare publish rate.
GOAL = 0.5
GOAL_CONCURRENCY = 64
BATCH_CONCURRENCY = (1, 4)
NUM_GENERATIONS = 512

Turn = Callable[[int], dict[str, Any]]


class Benchmark:
    """Contestants, and what each did in each round."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._turns: dict[str, Turn] = {}
        self._rounds: list[dict[tuple[str, int], dict[str, Any]]] = []

    def add(self, name: str, process: LineProcess, **request: Any) -> None:
        seconds = self._options.turn_s

        def take_turn(concurrency: int) -> dict[str, Any]:
            return process.ask({"concurrency": concurrency, "seconds": seconds, **request})

        self._turns[name] = take_turn

    def run(self) -> None:
        """All rounds; the first warms everybody up."""
        names = list(self._turns)
        for number in range(self._options.rounds + 1):
            results = {}
            for concurrency in self._options.concurrency:
                for place in range(len(names)):
                    name = names[(place + number) % len(names)]
                    results[name, concurrency] = self._turns[name](concurrency)
            if number:
                self._rounds.append(results)

    def report(self) -> None:
        for concurrency in self._options.concurrency:
            line: dict[str, Any] = {
                name: times([one[name, concurrency] for one in self._rounds])
                for name in self._turns
            }
            for name in ("bare", "celery"):
                if name in self._turns:
                    others = [rate(one[name, concurrency]) for one in self._rounds]
                    line[f"selm_to_{name}"] = self._ratio(concurrency, others)
            if "celery" in self._turns:
                kept = [kept_rate(one["celery", concurrency]) for one in self._rounds]
                line["selm_to_celery_kept"] = self._ratio(concurrency, kept)
            line["selm_to_best_bare"] = self._ratio(concurrency, self.best_bare())
            say(measure="create", concurrency=concurrency, **line)
        if GOAL_CONCURRENCY in self._options.concurrency:
            reached = self._ratio(GOAL_CONCURRENCY, self.best_bare())
            say(
                measure="goal",
                concurrency=GOAL_CONCURRENCY,
                best_bare_per_s=round(statistics.median(self.best_bare()), 1),
                selm_to_best_bare=reached,
                goal=GOAL,
                is_reached=reached >= GOAL,
            )

    def best_bare(self) -> list[float]:
        """The best rate that the broker gave to plain publishes in each round."""
        return [
            max(rate(turn) for (name, _), turn in one.items() if name == "bare")
            for one in self._rounds
        ]

    def _ratio(self, concurrency: int, others: Sequence[float]) -> float:
        """Median over the rounds of our rate to another's of the same round."""
        ours = [rate(one["selm", concurrency]) for one in self._rounds]
        return round(statistics.median(a / b for a, b in zip(ours, others, strict=True)), 2)


def rate(turn: dict[str, Any]) -> float:
    return len(turn["latencies_s"]) / float(turn["seconds"])


def kept_rate(turn: dict[str, Any]) -> float:
    """How fast the worker had everything of the turn in the list."""
    return len(turn["latencies_s"]) / float(turn["kept_seconds"])


def times(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median and 99th percentile of all calls; the median rate of the rounds, and their range."""
    latencies = sorted(latency for turn in turns for latency in turn["latencies_s"])
    rates = [rate(turn) for turn in turns]
    found = {
        "p50_ms": round(statistics.median(latencies) * 1000, 2),
        "p99_ms": round(latencies[int(0.99 * (len(latencies) - 1))] * 1000, 2),
        "per_s": round(statistics.median(rates), 1),
        "per_s_range": [round(min(rates), 1), round(max(rates), 1)],
    }
    if "kept_seconds" in turns[0]:
        found["kept_per_s"] = round(statistics.median(map(kept_rate, turns)), 1)
    return found


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps({"benchmark": "feedback", **facts}) + "\n")
    sys.stdout.flush()


def measure_get(load: LineProcess, options: argparse.Namespace) -> None:
    for concurrency in options.concurrency:
        request = {"do": "get", "concurrency": concurrency, "seconds": options.turn_s}
        turns = [load.ask(request) for _ in range(options.rounds)]
        say(measure="get", concurrency=concurrency, selm=times(turns))


def measure_batch(load: LineProcess, options: argparse.Namespace, best_bare: float) -> None:
    """BatchCreateFeedbackEvents, which spares what each call costs by itself."""
    for concurrency in BATCH_CONCURRENCY:
        request = {"do": "batch", "concurrency": concurrency, "seconds": options.turn_s}
        turns = [load.ask(request) for _ in range(options.rounds)]
        events_per_s = BATCH_ITEMS * statistics.median(map(rate, turns))
        say(
            measure="batch",
            items=BATCH_ITEMS,
            concurrency=concurrency,
            calls=times(turns),
            events_per_s=round(events_per_s, 1),
            to_best_bare=round(events_per_s / best_bare, 2),
        )


def add_classic(
    benchmark: Benchmark, options: argparse.Namespace, folder: Path, resources: ExitStack, size: int
) -> None:
    """Redis and Celery, if this machine can have them."""
    try:
        server = find_redis(options.redis_server)
        version = server.version()
        producer = resources.enter_context(classic_stack(server, folder / "classic"))
    except PeerError as error:
        say(measure="peer", peer="celery", installed=False, why=str(error))
        return
    benchmark.add("celery", producer, num_bytes=size)
    packages = requirements()
    say(measure="peer", peer="celery", installed=True, server=version, packages=packages)


def start_load(stack: FeedbackStack, folder: Path, resources: ExitStack) -> LineProcess:
    command = [sys.executable, "-m", "tests.bench.feedback_load", stack.target, stack.nats_url]
    load = resources.enter_context(LineProcess(command, os.environ, folder / "load.log"))
    load.tell(stack.generations)
    return load


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(prog="python -m tests.bench.feedback")
    parser.add_argument("--concurrency", type=numbers, default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn-s", type=float, default=2.0)
    parser.add_argument("--redis-server", default="", help="a binary instead of Debian's")
    parser.add_argument("--no-celery", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="selm-bench-") as name, ExitStack() as resources:
        folder = Path(name)
        stack = resources.enter_context(feedback_stack(folder, NUM_GENERATIONS))
        load = start_load(stack, folder, resources)
        load.ask({"do": "create", "concurrency": 1, "seconds": 0.1})
        size = stored_bytes(stack)
        say(measure="stack", service_pid=stack.pid, message_bytes=size, sync="always")
        benchmark = Benchmark(options)
        benchmark.add("selm", load, do="create")
        benchmark.add("bare", load, do="bare", num_bytes=size)
        if not options.no_celery:
            add_classic(benchmark, options, folder, resources, size)
        benchmark.run()
        benchmark.report()
        measure_batch(load, options, statistics.median(benchmark.best_bare()))
        measure_get(load, options)


if __name__ == "__main__":
    main(sys.argv[1:])
