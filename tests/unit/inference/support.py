"""What tests of inference share: revisions, an adapter manager on real files, readers."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from inference_svc.core import Sampling
from inference_svc.engine.adapter_loader import AdapterLoader
from inference_svc.engine.adapters import AdapterManager
from inference_svc.engine.engine import AsyncEngine
from inference_svc.engine.running import RunningGeneration
from inference_svc.engine.verify import Verifier
from inference_svc.revisions import AliasMove, Revision, ScopeMode
from selm.artifacts import FileArtifactStore
from selm.errors import SelmError
from selm.names import revision_name
from tests.model_fixtures import PackedAdapter

TENANT = "default"
ADAPTER = "adapters/default"
MAX_NORM = 1.0


def revision_of(packed: PackedAdapter, store: Path | None = None, tenant: str = TENANT) -> Revision:
    """The revision as the registry would describe the artifact; `store` also keeps its file."""
    if store is not None:
        store.mkdir(parents=True, exist_ok=True)
        shutil.copy(packed.archive, store / packed.archive_sha256)
    return Revision(
        tenant=tenant,
        name=revision_name("default", packed.identity.revision_id),
        sha256=packed.identity.sha256,
        base_sha256=packed.base_sha256,
        weights_sha256=packed.identity.weights_sha256,
        config_sha256=packed.identity.config_sha256,
        lessons_sha256=packed.lessons_sha256,
        artifact_uri=f"file://{store}/{packed.archive_sha256}",
        artifact_sha256=packed.archive_sha256,
        size_bytes=packed.archive.stat().st_size,
        newest_lesson_time=datetime(2030, 1, 2, tzinfo=UTC),
    )


class ListedRevisions:
    """A registry in memory."""

    def __init__(self, *revisions: Revision) -> None:
        self.revisions = list(revisions)

    async def by_name(self, tenant: str, name: str) -> Revision | None:
        return next((r for r in self.revisions if (r.tenant, r.name) == (tenant, name)), None)

    async def by_digest(self, tenant: str, sha256: str) -> Revision | None:
        return next((r for r in self.revisions if (r.tenant, r.sha256) == (tenant, sha256)), None)


class Replica:
    """An engine with its adapters, and what it told about alias moves."""

    def __init__(self, engine: AsyncEngine, store: Path) -> None:
        self.engine = engine
        self.store = store
        self.registry = ListedRevisions()
        self.outcomes: list[tuple[str, str]] = []
        self.told = asyncio.Event()
        self._epoch = 0
        self.adapters: AdapterManager

    def move(self, revision: Revision, alias_id: str = "stable", epoch: int = 0) -> None:
        """Points an alias at a revision, one epoch later than before."""
        self._epoch = epoch or self._epoch + 1
        adapter = revision.adapter
        mode = ScopeMode.SCOPED
        self.adapters.follow(
            AliasMove(revision.tenant, adapter, alias_id, revision, mode, self._epoch)
        )

    async def moved(self, revision: Revision) -> None:
        """The same, and waits until it serves or was refused."""
        self.told.clear()
        self.move(revision)
        await self.told.wait()

    async def on_outcome(self, move: AliasMove, error: SelmError | None, seconds: float) -> None:
        self.outcomes.append((move.revision.name, error.reason if error else "SERVING"))
        self.told.set()


@asynccontextmanager
async def running_replica(
    engine: AsyncEngine, tmp_path: Path, retry_s: float = 60.0, is_registry_read: bool = True
) -> AsyncIterator[Replica]:
    """The adapter manager of an engine, with artifacts from a folder."""
    replica = Replica(engine, tmp_path / "store")
    loader = AdapterLoader(
        engine,
        Verifier(engine.facts, engine.runner.lora.modules, MAX_NORM),
        FileArtifactStore(replica.store),
        tmp_path / "work",
        retry_s,
    )
    async with AdapterManager(loader, replica.registry, replica.on_outcome) as adapters:
        replica.adapters = adapters
        if is_registry_read:
            adapters.registry_read()
        yield replica


async def read(running: RunningGeneration) -> str:
    """All text of a generation."""
    return "".join([delta.text async for delta in running])


def tokens(num: int, **knobs: object) -> Sampling:
    """Exactly so many tokens, whatever the model says."""
    return replace(Sampling(max_output_tokens=num, ignore_end=True), **knobs)
