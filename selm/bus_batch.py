"""Atomic batches of JetStream: several messages of one stream are stored together or not at all.

One batch costs the broker one sync to disk, where as many single publishes cost one each. The rules
are the server's (ADR-50, from 2.12 on) and were tried on 2.15.1:
- a message id that the stream knows, or that comes twice in a batch, refuses the whole batch;
- so does a full stream, or a member that is too large: the end then misses a message;
- a refused or unfinished batch leaves no trace;
- at most 1000 messages a batch; at most 50 unfinished batches a stream, each forgotten after 10 s;
- the one acknowledgement names the sequence of the last message; the others precede it without gap.
A broken connection leaves it open whether the batch was stored, as with one message: repeat each
message with its id.
"""

import json
import uuid
from collections.abc import Sequence
from typing import Any

import nats.js.errors

from selm.bus_errors import BatchRefusedError, bus_unavailable
from selm.publication import Publication, PublishAck

MAX_MESSAGES = 1000

_BATCH_ID = "Nats-Batch-Id"
_BATCH_SEQUENCE = "Nats-Batch-Sequence"
_BATCH_COMMIT = "Nats-Batch-Commit"
# A known message id; a member refused before the end came, for example as too large; more messages
# than this broker takes, too many unfinished batches, or a stream that takes none (yet).
_REFUSED_CODES = frozenset({10201, 10176, 10199, 10210, 10174})
# Longer than any caller waits: the caller's own limit decides.
_FOR_EVER_S = 3600.0


async def publish_atomically(client: Any, publications: Sequence[Publication]) -> list[PublishAck]:
    """Store all or none; raises what nats-py raises, and BatchRefusedError."""
    if len(publications) > MAX_MESSAGES:
        raise ValueError(f"a batch has at most {MAX_MESSAGES} messages, not {len(publications)}")
    # A new id at each attempt: the remains of a broken one must not mix with it.
    batch_id = uuid.uuid4().hex
    *others, last = publications
    for place, publication in enumerate(others, 1):
        headers = _headers(publication, batch_id, place)
        # Unanswered: a refusal of any message is told in the answer to the last.
        await client.publish(publication.subject, publication.payload, headers=headers)
    headers = _headers(last, batch_id, len(publications)) | {_BATCH_COMMIT: "1"}
    reply = await client.request(last.subject, last.payload, timeout=_FOR_EVER_S, headers=headers)
    return _acks(json.loads(reply.data), len(publications))


def _headers(publication: Publication, batch_id: str, place: int) -> dict[str, str]:
    return publication.all_headers | {_BATCH_ID: batch_id, _BATCH_SEQUENCE: str(place)}


def _acks(answer: dict[str, Any], count: int) -> list[PublishAck]:
    if error := answer.get("error"):
        if error.get("err_code") in _REFUSED_CODES:
            raise BatchRefusedError(error["description"])
        nats.js.errors.APIError.from_error(error)
    if answer.get("count") != count:
        # A broker older than 2.12 takes each message for itself and says nothing of the batch.
        raise bus_unavailable("the broker does not know atomic batches")
    first = int(answer["seq"]) - count + 1
    return [PublishAck(answer["stream"], first + place, False) for place in range(count)]
