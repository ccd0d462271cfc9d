"""A typed view of one KV bucket: get, create once, change by compare-and-set, list.

Owns the retry of a lost compare-and-set; knows no record's rules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from selm.errors import SelmError
from trainer_svc.registry.codec import decode, encode

T = TypeVar("T")
# A change that loses this often in a row meets a writer that never stops; give up loudly.
MAX_CHANGE_ATTEMPTS = 50


class Entry(Protocol):
    """A stored value and the revision of its key."""

    @property
    def value(self) -> bytes: ...
    @property
    def revision(self) -> int: ...


class KeyValue(Protocol):
    """The part of selm.kv that records need."""

    async def get(self, key: str) -> Entry | None: ...
    async def create(self, key: str, value: bytes) -> int: ...
    async def update(self, key: str, value: bytes, revision: int) -> int: ...
    async def keys(self, prefix: str = "") -> list[str]: ...


@dataclass(frozen=True)
class Stored(Generic[T]):
    """A record as read, with the revision a compare-and-set must name."""

    record: T
    revision: int


class Table(Generic[T]):
    """Records of one kind in one bucket."""

    def __init__(
        self,
        kv: KeyValue,
        kind: type[T],
        *,
        encoded: Callable[[T], bytes] = encode,
        decoded: Callable[[str, bytes], T] | None = None,
    ) -> None:
        """`decoded` gets the key too: an encoding shared with others may not repeat the tenant."""
        self._kv = kv
        self._encoded = encoded
        self._decoded = decoded or (lambda _key, data: decode(kind, data))

    async def find(self, key: str) -> Stored[T] | None:
        """The record under the key, read from the leader."""
        entry = await self._kv.get(key)
        return None if entry is None else Stored(self._decoded(key, entry.value), entry.revision)

    async def create(self, key: str, record: T) -> T:
        """Writes the record unless the key exists; returns what is stored then."""
        try:
            await self._kv.create(key, self._encoded(record))
        except SelmError as error:
            if error.reason != "RESOURCE_EXISTS":
                raise
            stored = await self.find(key)
            if stored is None:
                raise
            return stored.record
        return record

    async def write(self, key: str, record: T, revision: int) -> int:
        """Replaces the record if the key is still at `revision`; STALE_REVISION otherwise."""
        return await self._kv.update(key, self._encoded(record), revision)

    async def change(self, key: str, change: Callable[[T], T]) -> T | None:
        """Applies a pure change to the newest record until no other writer comes between.

        None if there is no record. Returning the record unchanged writes nothing.
        """
        for _ in range(MAX_CHANGE_ATTEMPTS):
            stored = await self.find(key)
            if stored is None:
                return None
            changed = change(stored.record)
            if changed == stored.record:
                return changed
            try:
                await self.write(key, changed, stored.revision)
            except SelmError as error:
                if error.reason != "STALE_REVISION":
                    raise
            else:
                return changed
        raise SelmError("BUS_UNAVAILABLE", f"{key} is being changed by others without pause")

    async def list_all(self, prefix: str) -> list[T]:
        """Every record whose key begins with the prefix, in no order."""
        found = [await self.find(key) for key in await self._kv.keys(prefix)]
        return [stored.record for stored in found if stored is not None]
