"""Which erasure a request_id led to, kept for ever: a repeat must not erase what came since.

Written before the erasure is ordered; a repeat of one that died in between orders that same one.
"""

import json

from feedback_svc.core import RequestKey
from selm.errors import SelmError
from selm.kv import KeyValue

BUCKET = "request_ids"


class ErasureRequests:
    """Entries in the bucket that is shared with others; a key begins with a word of its own."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def settle(self, tenant: str, key: RequestKey, erasure: str) -> str:
        """The erasure of this request_id: this one, unless an earlier attempt had settled on one;
        REQUEST_ID_REUSED if that was asked with other content."""
        path = f"erasure.{tenant}.{key.request_id}"
        fields = {"digest": key.digest, "erasure": erasure}
        try:
            await self._bucket.create(path, json.dumps(fields).encode())
        except SelmError as error:
            if error.reason != "RESOURCE_EXISTS":
                raise
            found = await self._bucket.get(path)
            if found is None:
                # A replica of the bucket that lags; the entry is there, so the caller may repeat.
                raise SelmError("BUS_UNAVAILABLE", "the entry is not readable yet") from error
            fields = json.loads(found.value)
        if fields["digest"] != key.digest:
            raise SelmError(
                "REQUEST_ID_REUSED",
                "this request_id was used before with other content",
                metadata={"request_id": key.request_id},
            )
        return str(fields["erasure"])
