"""Makes stream ADAPTERS tell where each alias points now, whatever was lost or out of order."""

import uuid

from selm.log import get_logger
from trainer_svc.core import Alias
from trainer_svc.ports import Announcer
from trainer_svc.registry.adapters import AdapterRegistry
from trainer_svc.registry.revisions import RevisionRegistry

_log = get_logger("trainer_svc.registry")
MAX_ROUNDS = 10


class AliasAnnouncer:
    """Announces from the record, never from a caller's memory of it."""

    def __init__(
        self, adapters: AdapterRegistry, revisions: RevisionRegistry, announcer: Announcer
    ) -> None:
        self._adapters = adapters
        self._revisions = revisions
        self._announcer = announcer

    async def announce(self, tenant: str, adapter_id: str, alias_id: str) -> None:
        """Publishes the alias as recorded, until the stream's newest word is the record's.

        Two trainers may announce two moves in the wrong order; whoever looks last puts it right.
        """
        for round_number in range(MAX_ROUNDS):
            alias = (await self._adapters.get(tenant, adapter_id)).alias(alias_id)
            if alias is None:
                return
            told = await self._announcer.announced_epoch(tenant, adapter_id, alias_id)
            if told == alias.epoch:
                return
            await self._publish(tenant, alias, is_repair=round_number > 0 or told > alias.epoch)
        _log.error("alias_not_announced", tenant=tenant, adapter=adapter_id, alias=alias_id)

    async def reconcile(self) -> None:
        """Announces every alias whose last move was not; for the start of a trainer."""
        for adapter in await self._adapters.list_everywhere():
            for alias in adapter.aliases:
                await self.announce(adapter.tenant, adapter.adapter_id, alias.alias_id)

    async def _publish(self, tenant: str, alias: Alias, *, is_repair: bool) -> None:
        revision = await self._revisions.get(tenant, alias.adapter_id, alias.revision_id)
        message_id = f"{tenant}.{alias.adapter_id}.{alias.alias_id}.{alias.epoch}"
        if is_repair:
            # The plain id may be taken by an announcement that an older one has since replaced.
            message_id = f"{message_id}.{uuid.uuid4().hex}"
        await self._announcer.alias_moved(tenant, alias, revision, message_id)
        _log.info(
            "alias_announced",
            tenant=tenant,
            adapter=alias.adapter_id,
            alias=alias.alias_id,
            revision=alias.revision_id,
            epoch=alias.epoch,
        )
