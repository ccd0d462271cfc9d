"""Lists, watches, exports and batches of one feedback_svc client."""

import asyncio
import json
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from selm.api.feedback.v1 import feedback_event_pb2 as events_pb
from selm.api.feedback.v1 import feedback_service_pb2 as pb
from selm.api.feedback.v1 import lesson_service_pb2


async def list_events(client: Any, size: int = 0, token: str = "", **conditions: Any) -> Any:
    request = pb.ListFeedbackEventsRequest(
        page_size=size, page_token=token, filter=events_pb.FeedbackFilter(**conditions)
    )
    return await client.feedback.ListFeedbackEvents(request, metadata=client.metadata, timeout=10)


async def all_pages(client: Any, size: int, **conditions: Any) -> list[Any]:
    """Every page, to the last."""
    pages = [await list_events(client, size, **conditions)]
    while pages[-1].next_page_token:
        pages.append(await list_events(client, size, pages[-1].next_page_token, **conditions))
    return pages


async def list_lessons(client: Any, size: int = 0, token: str = "", **conditions: Any) -> Any:
    request = lesson_service_pb2.ListLessonsRequest(
        page_size=size, page_token=token, filter=lesson_service_pb2.LessonFilter(**conditions)
    )
    return await client.lessons.ListLessons(request, metadata=client.metadata, timeout=10)


def export(client: Any, token: str = "", **conditions: Any) -> Any:
    """The stream of an export."""
    request = pb.ExportFeedbackEventsRequest(
        resume_token=token, filter=events_pb.FeedbackFilter(**conditions)
    )
    return client.feedback.ExportFeedbackEvents(request, metadata=client.metadata, timeout=30)


async def exported(client: Any, token: str = "", **conditions: Any) -> list[dict[str, Any]]:
    """Every line of an export, parsed."""
    return [json.loads(frame.json) async for frame in export(client, token, **conditions)]


async def batch(client: Any, *items: dict[str, Any]) -> Any:
    """Each item is an event, with its `request_id` or a new one."""
    requests = [
        pb.CreateFeedbackEventRequest(
            request_id=item.pop("request_id", str(uuid.uuid4())),
            feedback_event=events_pb.FeedbackEvent(**item),
        )
        for item in map(dict, items)
    ]
    return await send_batch(client, requests)


async def send_batch(client: Any, requests: Sequence[Any], timeout: float = 30) -> Any:
    request = pb.BatchCreateFeedbackEventsRequest(requests=requests)
    return await client.feedback.BatchCreateFeedbackEvents(
        request, metadata=client.metadata, timeout=timeout
    )


class EventWatcher:
    """An open watch whose frames are collected beside the test."""

    def __init__(self, client: Any, token: str = "", **conditions: Any) -> None:
        request = pb.WatchFeedbackEventsRequest(
            resume_token=token, filter=events_pb.FeedbackFilter(**conditions)
        )
        self.call = client.feedback.WatchFeedbackEvents(request, metadata=client.metadata)
        self.frames: list[Any] = []
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for frame in self.call:
            self.frames.append(frame)
            self._news.set()

    @property
    def events(self) -> list[Any]:
        return [frame.feedback_event for frame in self.frames]

    @property
    def token(self) -> str:
        return str(self.frames[-1].resume_token)

    async def has(self, num_frames: int) -> "EventWatcher":
        async with asyncio.timeout(10):
            while len(self.frames) < num_frames:
                self._news.clear()
                await self._news.wait()
        return self

    async def __aenter__(self) -> "EventWatcher":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        self._reading.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self._reading
