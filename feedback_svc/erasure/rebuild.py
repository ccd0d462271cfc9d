"""Asks for the rebuild of an adapter whose serving revision holds what was erased, once each."""

import uuid

from feedback_svc.core import RequestKey
from feedback_svc.learning import Learning, TrainingWish, Trigger
from selm.erasures import ErasureOrder

_NAMESPACE = uuid.UUID("6f0d5c1e-0d5e-4c8e-9a55-5f3c2f1f7a10")


class LearnAnew:
    """Fulfils forgetting.Rebuilder with the training that anybody may ask for."""

    def __init__(self, learning: Learning) -> None:
        self._learning = learning

    async def rebuild(self, order: ErasureOrder, adapter: str) -> None:
        """DATASET_EMPTY if no lesson is left; asking again changes nothing."""
        content = f"{order.tenant}/{order.name}/{adapter}"
        key = RequestKey(str(uuid.uuid5(_NAMESPACE, content)), content)
        wish = TrainingWish(
            adapter,
            from_base=True,
            reason=f"without what {order.name} took",
            trigger=Trigger.ERASURE,
        )
        await self._learning.request(order.tenant, order.name, wish, key)
