"""Creates streams, buckets and the object store as selm.streams describes them, and keeps them so.

Idempotent and safe from several services at once. Never touches the number of replicas of something
that exists: scaling a stream is the operator's act.
"""

from typing import Any

import nats.js.errors
from nats.js import api

from selm import streams
from selm.errors import SelmError
from selm.streams import BucketSpec, StreamSpec

_NAME_IN_USE = 10058
_RETENTION = {
    "limits": api.RetentionPolicy.LIMITS,
    "work_queue": api.RetentionPolicy.WORK_QUEUE,
}
_DISCARD = {"new": api.DiscardPolicy.NEW, "old": api.DiscardPolicy.OLD}
_BUCKET_PREFIX = "KV_"
_OBJECTS_PREFIX = "OBJ_"


async def ensure_stream(jetstream: Any, spec: StreamSpec) -> None:
    """Create the stream, or bring its limits up to date."""
    config = api.StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        retention=_RETENTION[spec.retention],
        storage=api.StorageType.FILE,
        discard=_DISCARD[spec.discard],
        max_age=spec.max_age_s,
        max_msgs_per_subject=spec.max_messages_per_subject or -1,
        duplicate_window=spec.duplicate_window_s,
        allow_direct=True,
        allow_atomic=spec.has_batches,
    )
    info = await _create_or_update(jetstream, config)
    if info.config.storage != api.StorageType.FILE or info.config.no_ack:
        # An acknowledgement from such a stream would promise what it cannot keep.
        raise SelmError("STORE_UNAVAILABLE", f"stream {spec.name} does not store on disk")


async def ensure_bucket(jetstream: Any, spec: BucketSpec) -> None:
    """Create the key-value bucket, or bring its history up to date."""
    config = api.StreamConfig(
        name=_BUCKET_PREFIX + spec.name,
        subjects=[f"$KV.{spec.name}.>"],
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        max_msgs_per_subject=spec.history,
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )
    await _create_or_update(jetstream, config)


async def ensure_objects(jetstream: Any, bucket: str) -> None:
    """Create the object store."""
    config = api.StreamConfig(
        name=_OBJECTS_PREFIX + bucket,
        subjects=[f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        allow_direct=True,
        allow_rollup_hdrs=True,
    )
    await _create_or_update(jetstream, config)


async def ensure_known(jetstream: Any, stream: str) -> None:
    """Create one of ours by the name of its stream: a broker that lost its disk has none left."""
    if stream.startswith(_BUCKET_PREFIX):
        await ensure_bucket(jetstream, streams.bucket_spec(stream.removeprefix(_BUCKET_PREFIX)))
    elif stream.startswith(_OBJECTS_PREFIX):
        await ensure_objects(jetstream, stream.removeprefix(_OBJECTS_PREFIX))
    else:
        await ensure_stream(jetstream, streams.stream_spec(stream))


async def _create_or_update(jetstream: Any, config: Any) -> Any:
    try:
        return await jetstream.add_stream(config)
    except nats.js.errors.APIError as error:
        if error.err_code != _NAME_IN_USE:
            raise
    present = (await jetstream.stream_info(config.name)).config
    config.num_replicas = present.num_replicas
    return await jetstream.update_stream(config)
