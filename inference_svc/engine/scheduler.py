"""Who runs: the bounded waiting room, the rows, admission by room for keys and values.

Used by the engine thread alone; runs no model and chooses no token.
"""

import time
from collections import deque

from inference_svc.engine.kv_cache import CacheBudget
from inference_svc.engine.sequence import Sequence, Status


class Scheduler:
    """Sequences waiting in order of arrival, and those that hold a row."""

    def __init__(self, budget: CacheBudget, max_running: int) -> None:
        self._budget = budget
        self._max_running = max_running
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.running

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def next_waiting(self) -> Sequence | None:
        """The first in line if it can run now; nobody overtakes one that does not fit yet."""
        if not self.waiting or len(self.running) >= self._max_running:
            return None
        first = self.waiting[0]
        return first if self._budget.has_room(first.num_reserved_tokens) else None

    def admit(self, sequence: Sequence) -> None:
        """Gives a row to what next_waiting named; if its memory fails, it waits as before."""
        sequence.cache = self._budget.allocate(sequence.num_reserved_tokens)
        self.waiting.remove(sequence)
        sequence.status = Status.PREFILLING
        sequence.admit_time = time.monotonic()
        self.running.append(sequence)

    def next_prefill(self) -> Sequence | None:
        """The earliest admitted one whose prompt is not computed: one per step."""
        return next((s for s in self.running if s.status is Status.PREFILLING), None)

    def decoding(self) -> list[Sequence]:
        return [s for s in self.running if s.status is Status.DECODING]

    def remove(self, sequence: Sequence) -> None:
        """Frees its row and memory; nothing happens if it holds none."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        if sequence.cache is not None:
            self._budget.free(sequence.cache)
            sequence.cache = None
        sequence.status = Status.FINISHED

    def everyone(self) -> list[Sequence]:
        return [*self.running, *self.waiting]
