"""Kills services of a running stack at moments of the loop that are observed, never guessed.

A moment is looked for through the public API; a call whose service is away is asked again.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import grpc

from selm.api.memory.v1 import memory_service_pb2, memory_service_pb2_grpc
from selm.api.trainer.v1 import trainer_service_pb2, trainer_service_pb2_grpc, training_job_pb2
from tests.stack import Stack

_LOOK_S = 0.2
_CALL_S = 5.0


def is_teaching(stack: Stack) -> bool:
    """Some corrections are remembered, and the demo goes on correcting."""
    with grpc.insecure_channel(stack.target("memory")) as channel:
        stub = memory_service_pb2_grpc.MemoryServiceStub(channel)
        request = memory_service_pb2.ListMemoriesRequest(parent="users/anonymous")
        return len(stub.ListMemories(request, timeout=_CALL_S).memories) >= 2


def is_in(*states: int) -> Callable[[Stack], bool]:
    """A training job is in one of these states now."""

    def look(stack: Stack) -> bool:
        with grpc.insecure_channel(stack.target("trainer")) as channel:
            stub = trainer_service_pb2_grpc.TrainerServiceStub(channel)
            request = trainer_service_pb2.ListTrainingJobsRequest()
            jobs = stub.ListTrainingJobs(request, timeout=_CALL_S).training_jobs
            return any(job.state in states for job in jobs)

    return look


is_training = is_in(training_job_pb2.TrainingJob.STATE_TRAINING)
is_judging = is_in(training_job_pb2.TrainingJob.STATE_EVALUATING)

Moment = tuple[Callable[[Stack], bool], Iterable[str]]


@dataclass
class Killer:
    """Waits for each moment in order and then kills its services; `kills` says which died."""

    stack: Stack
    moments: Iterable[Moment]
    kills: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Killer":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)

    def _run(self) -> None:
        for is_reached, services in self.moments:
            while not self._sees(is_reached):
                if self._stopping.wait(_LOOK_S):
                    return
            for service in services:
                self._kill(service)

    def _sees(self, is_reached: Callable[[Stack], bool]) -> bool:
        try:
            return is_reached(self.stack)
        except grpc.RpcError:  # the service to ask is being restarted
            return False

    def _kill(self, service: str) -> None:
        """Kills it, once it runs again if an earlier kill has just ended it."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self.stack.kill(service)
            except LookupError:
                time.sleep(_LOOK_S)
            else:
                self.kills.append(service)
                return
