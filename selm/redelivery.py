"""Delivering a stored message to one durable consumer once more, long after its stream moved on.

A message that stands in its stream cannot be published again: within the window the broker drops
it, after that it would stand there twice. So a copy goes to REDELIVERIES, addressed to the durable
consumer, whose handler gets it as the message it was: first subject, first sequence, first message
id. Handlers are idempotent by those, so nothing counts twice. A copy whose message is gone from its
stream, because somebody was forgotten meanwhile, is dropped.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import nats.js.errors

from selm import streams
from selm.bus_errors import broker_errors
from selm.consumer import ConsumerSpec, DeadLetter, DurableConsumer, Handler
from selm.delivery import MESSAGE_TYPE, Delivery
from selm.log import get_logger
from selm.nats_connection import NatsConnection
from selm.publication import Publication
from selm.tasks import end_tasks

_log = get_logger("selm.bus")

SUBJECT = "Selm-Again-Subject"
SEQUENCE = "Selm-Again-Sequence"
FIRST_ID = "Selm-Again-Message-Id"
# Which redelivery it was: a second failure is another dead letter.
AGAIN = "Selm-Again"
# "no message found", as distinct from a stream that is not there.
_NO_MESSAGE = 10037


def publication_of(stored: Delivery, durable: str, occasion: str) -> Publication:
    """What to publish so that `durable` handles a stored message again; once per occasion."""
    tenant = streams.tenant_of(stored.subject)
    return Publication(
        subject=streams.redelivery_requested(tenant, durable),
        payload=stored.payload,
        message_id=f"{durable}:{stored.subject}:{stored.sequence}:{occasion}",
        headers={
            MESSAGE_TYPE: stored.message_type,
            SUBJECT: stored.subject,
            SEQUENCE: str(stored.sequence),
            FIRST_ID: stored.message_id,
        },
    )


async def consume_both(
    connection: NatsConnection,
    spec: ConsumerSpec,
    handler: Handler,
    dead_letter: Callable[[ConsumerSpec, Delivery, str, str], Awaitable[None]],
) -> None:
    """Run the consumer, and beside it the one of its redeliveries, until cancelled."""

    def given_up_as(original: Callable[[Delivery], Delivery]) -> DeadLetter:
        async def give_up(delivery: Delivery, reason: str, text: str) -> None:
            await dead_letter(spec, original(delivery), reason, text)

        return give_up

    async def handle_again(delivery: Delivery) -> None:
        original = as_it_was(delivery)
        if await _stands(connection, spec.stream, original):
            await handler(original)
        else:
            _log.info("redelivery_dropped", durable=spec.durable, sequence=original.sequence)

    consumers = [DurableConsumer(connection, spec, handler, given_up_as(lambda d: d))]
    if _keeps_its_messages(spec.stream):
        again = given_up_as(as_it_was)
        consumers.append(DurableConsumer(connection, _again(spec), handle_again, again))
    tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await end_tasks(tasks)


def as_it_was(delivery: Delivery) -> Delivery:
    """A redelivery as the message that it repeats."""
    headers: dict[str, Any] = {**delivery.headers, AGAIN: str(delivery.sequence)}
    return replace(
        delivery,
        subject=headers.get(SUBJECT, ""),
        sequence=int(headers.get(SEQUENCE, 0)),
        message_id=headers.get(FIRST_ID, ""),
        headers=headers,
    )


async def _stands(connection: NatsConnection, stream: str, original: Delivery) -> bool:
    """Whether the message is still there. No direct get: a replica may lag behind an erasure."""
    with broker_errors():
        try:
            stored = await connection.jetstream().get_msg(stream, original.sequence)
        except nats.js.errors.NotFoundError as error:
            if error.err_code != _NO_MESSAGE:
                raise
            return False
    return bool(stored.subject == original.subject)


def _again(spec: ConsumerSpec) -> ConsumerSpec:
    subject = streams.redelivery_requested("any", spec.durable).replace(".any.", ".*.")
    stream = streams.REDELIVERIES.name
    return replace(spec, stream=stream, durable=f"{spec.durable}_again", subjects=(subject,))


def _keeps_its_messages(stream: str) -> bool:
    """What a work queue gave away is simply published to it again."""
    return any(spec.name == stream and spec.retention == "limits" for spec in streams.STREAMS)
