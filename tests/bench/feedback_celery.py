"""The classic stack in its own venv: a Celery task that keeps feedback in a Redis list.

As a script: the producer, asked by lines of JSON, with as many threads as calls at once, as a web
server has. `delay` returns when Redis has the task on disk. The worker runs this file as its app.
Imports nothing of SELM.
"""

import json
import os
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis  # type: ignore[import-not-found]
from celery import Celery  # type: ignore[import-not-found]

URL = os.environ["BENCH_REDIS_URL"]
app = Celery("feedback_celery", broker=URL)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    broker_pool_limit=64,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=64,
)
store = redis.Redis.from_url(URL)


@app.task  # type: ignore[untyped-decorator]
def keep(event: dict[str, str]) -> None:
    """What the worker does: the list is the record of feedback."""
    store.rpush("feedback", json.dumps(event))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Enqueues for so long, then waits until the worker has kept everything."""
    padding = "x" * request["num_bytes"]
    before = store.llen("feedback")
    started = time.perf_counter()

    def produce() -> list[float]:
        latencies = []
        while (begun := time.perf_counter()) - started < request["seconds"]:
            keep.delay({"id": uuid.uuid4().hex, "feedback": padding})
            latencies.append(time.perf_counter() - begun)
        return latencies

    with ThreadPoolExecutor(request["concurrency"]) as pool:
        futures = [pool.submit(produce) for _ in range(request["concurrency"])]
        latencies = [latency for future in futures for latency in future.result()]
    enqueued_s = time.perf_counter() - started
    while store.llen("feedback") < before + len(latencies):
        time.sleep(0.01)
    return {
        "seconds": enqueued_s,
        "kept_seconds": time.perf_counter() - started,
        "latencies_s": latencies,
    }


def main() -> None:
    """Until there is no more request."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    # The worker knows the task by the name of the module, not as one of a script.
    import feedback_celery  # type: ignore[import-not-found]

    feedback_celery.main()
