"""Marks for the trainers: requests that nobody shall work on any more, in a bucket they watch."""

import json

from feedback_svc import learning
from feedback_svc.stream.jetstream import answering
from selm.kv import KeyValue

BUCKET = "training_cancellations"


class CancellationMarks:
    """Key `{tenant}.{training_request}`; a mark stands until its request is final."""

    def __init__(self, bucket: KeyValue, timeout_s: float) -> None:
        self._bucket = bucket
        self._timeout_s = timeout_s

    async def set(self, request: learning.TrainingRequest) -> None:
        value = json.dumps({"canceller": request.canceller}).encode()
        async with answering(self._timeout_s):
            if await self._bucket.get(_path(request)) is None:
                await self._bucket.put(_path(request), value)

    async def clear(self, request: learning.TrainingRequest) -> None:
        async with answering(self._timeout_s):
            if await self._bucket.get(_path(request)) is not None:
                await self._bucket.delete(_path(request))


def _path(request: learning.TrainingRequest) -> str:
    return f"{request.tenant}.{request.request_id}"
