"""The servicer of feedback: parse, call, render. No logic, no broker."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from feedback_svc import core
from feedback_svc.access import bounded, guarded, require_read
from feedback_svc.batches import Batches
from feedback_svc.render.batch import render_batch
from feedback_svc.render.events import render_event
from feedback_svc.wire.batch import parse_batch
from feedback_svc.wire.checks import parse_name
from feedback_svc.wire.create import parse_create
from feedback_svc.wire.lists import parse_export_events, parse_list_events, parse_watch_events
from selm import consistency, names, streams
from selm.api.feedback.v1 import feedback_service_pb2 as pb
from selm.api.feedback.v1 import feedback_service_pb2_grpc
from selm.auth import current_principal


@guarded
class FeedbackService(feedback_service_pb2_grpc.FeedbackServiceServicer):
    """The record of what users say about answers."""

    def __init__(self, recorder: core.Recorder, reader: core.EventReader) -> None:
        self._recorder = recorder
        self._batches = Batches(recorder)
        self._reader = reader

    async def CreateFeedbackEvent(self, request: Any, context: Any) -> Any:
        draft, key = parse_create(request, datetime.now(UTC))
        caller = current_principal()
        draft = bounded(draft, caller)
        record = await self._recorder.record(caller.tenant, caller.subject, draft, key)
        return pb.CreateFeedbackEventResponse(
            feedback_event=render_event(record),
            consistency_token=consistency.encode(streams.FEEDBACK.name, record.sequence),
        )

    async def BatchCreateFeedbackEvents(self, request: Any, context: Any) -> Any:
        items, refused = parse_batch(request, datetime.now(UTC))
        caller = current_principal()
        items = [replace(item, draft=bounded(item.draft, caller)) for item in items]
        recorded = await self._batches.record(caller.tenant, caller.subject, items)
        return render_batch({**recorded, **refused})

    async def GetFeedbackEvent(self, request: Any, context: Any) -> Any:
        name = parse_name(names.FEEDBACK_EVENT, request.name)
        caller = current_principal()
        record = await self._recorder.get(caller.tenant, name)
        require_read(caller, name, record.author, record.user)
        return pb.GetFeedbackEventResponse(feedback_event=render_event(record))

    async def ListFeedbackEvents(self, request: Any, context: Any) -> Any:
        tenant = current_principal().tenant
        page = parse_list_events(request, tenant)
        found = await self._reader.list(tenant, page.wanted, page.start, page.limit)
        events, token = page.of(found, render_event)
        return pb.ListFeedbackEventsResponse(feedback_events=events, next_page_token=token)

    async def WatchFeedbackEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:
        tenant = current_principal().tenant
        watch = parse_watch_events(request, tenant)
        async with aclosing(self._reader.watch(tenant, watch.wanted, watch.after)) as changes:
            async for news in changes:
                yield pb.WatchFeedbackEventsResponse(
                    feedback_event=render_event(news.record),
                    resume_token=watch.token_after(news.position),
                )

    async def ExportFeedbackEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:
        tenant = current_principal().tenant
        export = parse_export_events(request, tenant)
        until = await self._reader.newest(tenant) if export.until is None else export.until
        lines = self._reader.export(tenant, export.wanted, export.after, until)
        async with aclosing(lines) as events:
            async for event in events:
                token = export.token_after(event.sequence, until)
                yield pb.ExportFeedbackEventsResponse(json=event.line, resume_token=token)
