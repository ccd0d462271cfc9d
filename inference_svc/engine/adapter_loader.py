"""Loads revisions into slots: fetch, verify, install between two steps, probe. Remembers failures.

Runs on the event loop; several callers share one load, and a failed one harms nobody but itself.
Knows no alias and no request.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from inference_svc import metrics
from inference_svc.engine.engine import AsyncEngine
from inference_svc.engine.slots import NO_SLOT, Key, LoadedRevision, SlotTable, key_of
from inference_svc.engine.verify import VerifiedAdapter, Verifier, check_canary, digest_mismatch
from inference_svc.ports import ArtifactSource
from inference_svc.revisions import Revision
from selm.errors import SelmError
from selm.testing import failpoint

log = structlog.get_logger()

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 300.0
# A short prompt for the first forward pass through a new slot.
CANARY_TOKENS = (1, 2, 3, 5, 8, 13, 21, 34)


@dataclass(frozen=True)
class LoadFailure:
    """Why a revision did not load, and when it may be tried again."""

    revision: Revision
    error: SelmError
    num_attempts: int
    time: datetime
    retry_at: float

    @property
    def retry_time(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=max(0.0, self.retry_at - time.monotonic()))


class AdapterLoader:
    """The slots of one replica and everything on its way into them."""

    def __init__(
        self,
        engine: AsyncEngine,
        verifier: Verifier,
        artifacts: ArtifactSource,
        work_dir: Path,
        first_retry_s: float = FIRST_RETRY_S,
    ) -> None:
        self._engine = engine
        self._verifier = verifier
        self._artifacts = artifacts
        self._work_dir = work_dir
        self.first_retry_s = first_retry_s
        self.table = SlotTable(engine.facts.adapter_slots)
        self.loads: dict[Key, asyncio.Task[LoadedRevision]] = {}
        self.failures: dict[Key, LoadFailure] = {}
        # Revisions that aliases lead to; their slots are never taken.
        self.aliased: Callable[[], set[Key]] = set

    def open(self) -> None:
        """Clears what a process that was killed in the middle of a load left behind."""
        shutil.rmtree(self._work_dir, ignore_errors=True)
        self._work_dir.mkdir(parents=True)

    async def close(self) -> None:
        loads = list(self.loads.values())
        for task in loads:
            task.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    def is_loaded(self, loaded: LoadedRevision) -> bool:
        """False once its slot went to another revision."""
        return self.table.get(key_of(loaded.revision)) is loaded

    def retry_at(self, revision: Revision) -> float:
        """When a failed revision may be tried again, on the monotonic clock."""
        failure = self.failures.get(key_of(revision))
        return failure.retry_at if failure else time.monotonic() + self.first_retry_s

    async def ensure_loaded(self, revision: Revision) -> LoadedRevision:
        """The revision in its slot; several callers share one load, a fresh failure is repeated."""
        key = key_of(revision)
        if loaded := self.table.get(key):
            return loaded
        failure = self.failures.get(key)
        if failure is not None and self._is_fresh(failure):
            # Without the traceback: the same error is raised many times, and each would add to it.
            raise failure.error.with_traceback(None)
        if key not in self.loads:
            self.loads[key] = asyncio.create_task(self._load(revision))
            self.loads[key].add_done_callback(lambda task: self._load_ended(key, task))
        # Shielded: a caller that goes away must not end the load for the others.
        return await asyncio.shield(self.loads[key])

    def _is_fresh(self, failure: LoadFailure) -> bool:
        """Still within its back-off; a missing slot is no longer missing once one is free."""
        if failure.error.reason == NO_SLOT and self.table.has_room(self.aliased()):
            return False
        return time.monotonic() < failure.retry_at

    def _load_ended(self, key: Key, task: asyncio.Task[LoadedRevision]) -> None:
        del self.loads[key]
        if not task.cancelled():
            task.exception()  # Marked as seen: it may be that nobody waits for it any more.

    async def _load(self, revision: Revision) -> LoadedRevision:
        key = key_of(revision)
        start = time.monotonic()
        try:
            adapter = await self._fetch_and_verify(revision)
            slot = await self._install(revision, adapter)
        except SelmError as error:
            metrics.LOAD_FAILURES.labels(error.reason).inc()
            self.failures[key] = self._failure(revision, error)
            raise
        except Exception as error:
            log.exception("adapter_load_failed", revision=revision.name)
            failure = SelmError("INTERNAL", f"{revision.name} could not be loaded")
            self.failures[key] = self._failure(revision, failure)
            raise failure from error
        duration_s = time.monotonic() - start
        loaded = LoadedRevision(revision, slot, adapter.lessons, adapter.size_bytes, duration_s)
        self.table.put(loaded)
        self.failures.pop(key, None)
        metrics.LOAD_SECONDS.observe(duration_s)
        metrics.SLOTS_USED.set(len(self.table.all()))
        log.info("adapter_loaded", revision=revision.name, slot=slot, seconds=round(duration_s, 3))
        return loaded

    async def _fetch_and_verify(self, revision: Revision) -> VerifiedAdapter:
        folder = Path(tempfile.mkdtemp(dir=self._work_dir))
        try:
            archive = await self._artifacts.fetch(
                revision.artifact_uri, revision.artifact_sha256, folder / "artifact.tar"
            )
            failpoint("inference.after_fetch")
            return await asyncio.to_thread(
                self._verifier.verify, archive, revision, folder / "files"
            )
        except SelmError as error:
            if error.reason == "DIGEST_MISMATCH":
                raise digest_mismatch(revision, error) from error
            raise
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _install(self, revision: Revision, adapter: VerifiedAdapter) -> int:
        """Installs and probes between two steps; the slot is free again if the probe fails."""
        slot = self.table.take(self.aliased())
        runner = self._engine.runner

        def install() -> None:
            runner.lora.remove(slot)  # What an evicted revision left.
            runner.lora.install(slot, adapter.weights)
            try:
                check_canary(revision, runner.probe(CANARY_TOKENS, slot))
            except BaseException:
                runner.lora.remove(slot)
                raise

        try:
            await self._engine.between_steps(install)
        except BaseException:
            self.table.give_back(slot)
            raise
        return slot

    def _failure(self, revision: Revision, error: SelmError) -> LoadFailure:
        before = self.failures.get(key_of(revision))
        num_attempts = before.num_attempts + 1 if before else 1
        wait_s = min(MAX_RETRY_S, self.first_retry_s * 2 ** (num_attempts - 1))
        return LoadFailure(
            revision, error, num_attempts, datetime.now(UTC), time.monotonic() + wait_s
        )
