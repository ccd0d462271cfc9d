"""Immutable revisions under their id and their digest; the verdict about one may still improve.

Inference reads this bucket to load a pinned revision, hence the shared encoding handed in.
"""

from collections.abc import Callable
from dataclasses import replace

from selm.errors import SelmError, adapter_not_found
from selm.names import is_id, revision_name
from trainer_svc.core import Revision, RevisionState
from trainer_svc.registry.table import KeyValue, Table

DIGEST_PREFIX = "sha256:"


class RevisionRegistry:
    """The one writer of revision records."""

    def __init__(
        self,
        kv: KeyValue,
        encoded: Callable[[Revision], bytes],
        decoded: Callable[[str, bytes], Revision],
    ) -> None:
        """`decoded` gets the tenant beside the bytes, which do not repeat it."""
        self._kv = kv
        self._table = Table[Revision](
            kv,
            Revision,
            encoded=encoded,
            decoded=lambda key, data: decoded(key.split(".", 1)[0], data),
        )

    async def put(self, revision: Revision) -> Revision:
        """Stores the revision and the way to it from its digest; repeats change nothing.

        The same content may be judged twice: an acceptance replaces a rejection, never the reverse,
        because whoever serves an accepted revision relies on it.
        """
        key = _key(revision)
        stored = await self._table.create(key, revision)
        if stored.state is not RevisionState.ACCEPTED and revision.state is not stored.state:
            stored = await self._table.change(key, lambda old: _better(old, revision)) or stored
        digest_key = f"{revision.tenant}.sha256.{revision.sha256}"
        name = revision_name(revision.adapter_id, revision.revision_id).encode()
        try:
            await self._kv.create(digest_key, name)
        except SelmError as error:
            if error.reason != "RESOURCE_EXISTS":
                raise
        return stored

    async def get(self, tenant: str, adapter_id: str, revision_id: str) -> Revision:
        """The revision; ADAPTER_NOT_FOUND if the adapter has none of that id."""
        stored = await self._table.find(f"{tenant}.{adapter_id}.{revision_id}")
        if stored is None:
            raise adapter_not_found(revision_name(adapter_id, revision_id))
        return stored.record

    async def id_of_digest(self, tenant: str, adapter_id: str, sha256: str) -> str:
        """Id of the adapter's revision of that digest."""
        entry = await self._kv.get(f"{tenant}.sha256.{sha256}")
        name = revision_name(adapter_id, f"{DIGEST_PREFIX}{sha256}")
        if entry is None:
            raise adapter_not_found(name)
        _, found_adapter, _, revision_id = entry.value.decode().split("/")
        if found_adapter != adapter_id:
            raise adapter_not_found(name)
        return revision_id

    async def list_all(self, tenant: str, adapter_id: str | None) -> list[Revision]:
        """Revisions of one adapter or, with None, of all of the tenant; newest first."""
        prefix = f"{tenant}." if adapter_id is None else f"{tenant}.{adapter_id}."
        keys = [key for key in await self._kv.keys(prefix) if is_id("revision", key.split(".")[-1])]
        found = [await self._table.find(key) for key in keys]
        revisions = [stored.record for stored in found if stored is not None]
        return sorted(revisions, key=lambda r: (r.create_time, r.revision_id), reverse=True)


def _better(old: Revision, new: Revision) -> Revision:
    if old.state is RevisionState.ACCEPTED:
        return old
    manifest = replace(old.manifest, evaluation_id=new.manifest.evaluation_id)
    return replace(old, state=new.state, failure=new.failure, manifest=manifest)


def _key(revision: Revision) -> str:
    return f"{revision.tenant}.{revision.adapter_id}.{revision.revision_id}"
