"""The client's plain verbs for saying what an answer was worth; used through SelmClient.

Every one of them has a request_id, so that a repeat counts once: returning means it is on disk.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from selm.api.error.v1.error_reason_pb2 import ErrorReason, Failure
from selm.api.feedback.v1 import dataset_service_pb2, feedback_service_pb2
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.client_areas import FeedbackArea
from selm.client_channel import new_request_id
from selm.client_retry import Patience, is_outage
from selm.errors import SelmError, unavailable

MAX_BATCH = 500


@dataclass(frozen=True)
class Receipt:
    """What a signal leaves: the event, the lesson it became, and the token to be sure of it."""

    feedback_event: pb.FeedbackEvent
    consistency_token: str

    @property
    def lesson(self) -> str:
        """`lessons/{lesson}` to watch; empty if it was no correction."""
        return self.feedback_event.lesson


class FeedbackVerbs:
    """`await selm.thumbs(generation, up=False)`. A target is a generation or a conversation."""

    feedback: FeedbackArea
    patience: Patience

    async def thumbs(self, target: str, *, up: bool) -> Receipt:
        """Approval or disapproval."""
        return await self.give_feedback(
            _about(target, pb.FeedbackEvent(thumbs=pb.THUMBS_UP if up else pb.THUMBS_DOWN))
        )

    async def rate(self, target: str, value: float, *, max_value: float = 5.0) -> Receipt:
        """A number from 0 to max_value."""
        rating = pb.Rating(value=value, max_value=max_value)
        return await self.give_feedback(_about(target, pb.FeedbackEvent(rating=rating)))

    async def correct(
        self,
        generation: str,
        answer: str,
        question: str | None = None,
        paraphrases: Sequence[str] = (),
        *,
        consent: pb.Consent.ValueType = pb.CONSENT_UNSPECIFIED,
        request_id: str | None = None,
    ) -> Receipt:
        """Says what a generation should have answered."""
        event = pb.FeedbackEvent(
            generation=generation,
            consent=consent,
            correction=pb.Correction(text=answer, question=question or "", paraphrases=paraphrases),
        )
        return await self.give_feedback(event, request_id=request_id)

    async def prefer(self, generation: str, chosen: str, rejected: str = "") -> Receipt:
        """Says that one text is better than another, by default than what was answered."""
        preference = pb.Preference(chosen_text=chosen, rejected_text=rejected)
        return await self.give_feedback(
            pb.FeedbackEvent(generation=generation, preference=preference)
        )

    async def comment(self, target: str, text: str) -> Receipt:
        """Words for people; they train nothing."""
        return await self.give_feedback(
            _about(target, pb.FeedbackEvent(comment=pb.Comment(text=text)))
        )

    async def note_action(
        self, target: str, action: pb.Implicit.Action.ValueType, edited_text: str = ""
    ) -> Receipt:
        """What the user did with an answer; `edited_text` for ACTION_EDITED alone."""
        implicit = pb.Implicit(action=action, edited_text=edited_text)
        return await self.give_feedback(_about(target, pb.FeedbackEvent(implicit=implicit)))

    async def give_feedback(
        self, event: pb.FeedbackEvent, *, request_id: str | None = None
    ) -> Receipt:
        """Records any signal."""
        request = feedback_service_pb2.CreateFeedbackEventRequest(
            feedback_event=event, request_id=request_id or new_request_id()
        )
        response = await self.patience.through(
            lambda: self.feedback.service.CreateFeedbackEvent(request)
        )
        return Receipt(response.feedback_event, response.consistency_token)

    async def give_feedback_batch(
        self, events: Sequence[pb.FeedbackEvent], *, request_ids: Sequence[str] = ()
    ) -> list[Receipt | SelmError]:
        """Records many signals, each on its own: its receipt, or why it was refused, in order.

        What is refused only for now is sent again, with its id; nothing else is.
        """
        ids = request_ids or [new_request_id() for _ in events]
        requests = {
            index: feedback_service_pb2.CreateFeedbackEventRequest(
                feedback_event=event, request_id=request_id
            )
            for index, (event, request_id) in enumerate(zip(events, ids, strict=True))
        }
        outcomes: dict[int, Receipt | SelmError] = {}
        indexes = list(requests)
        for start in range(0, len(indexes), MAX_BATCH):
            part = {index: requests[index] for index in indexes[start : start + MAX_BATCH]}
            outcomes |= await self._send(part)
        return [outcomes[index] for index in indexes]

    async def _send(
        self, requests: Mapping[int, feedback_service_pb2.CreateFeedbackEventRequest]
    ) -> dict[int, Receipt | SelmError]:
        """One batch, until each of its items has its final outcome or patience ends."""
        outcomes: dict[int, Receipt | SelmError] = {}
        waiting, wait = dict(requests), self.patience.start()
        while waiting:
            batch = feedback_service_pb2.BatchCreateFeedbackEventsRequest(requests=waiting.values())
            try:
                response = await self.feedback.service.BatchCreateFeedbackEvents(batch)
            except SelmError as error:
                await wait.after(error)
                continue
            for index, result in zip(waiting, response.results, strict=True):
                outcomes[index] = _outcome(result, response.consistency_token)
            waiting = {index: waiting[index] for index in waiting if _may_pass(outcomes[index])}
            if waiting:
                try:
                    await wait.after(unavailable("BUS_UNAVAILABLE", "not all was recorded"))
                except SelmError:
                    break  # Who waits no longer still learns what became of each.
        return outcomes

    async def export_feedback(
        self, conditions: pb.FeedbackFilter | None = None
    ) -> AsyncGenerator[str, None]:
        """Lines of JSON, oldest first, through broken streams: each once."""
        request = feedback_service_pb2.ExportFeedbackEventsRequest(filter=conditions)
        wait = self.patience.start()
        while True:
            try:
                async for frame in self.feedback.service.ExportFeedbackEvents(request):
                    request.resume_token = frame.resume_token
                    wait = self.patience.start()
                    yield frame.json
            except SelmError as error:
                await wait.after(error)
            else:
                return

    async def export_dataset(
        self, request: dataset_service_pb2.ExportDatasetRequest
    ) -> AsyncGenerator[str, None]:
        """Lines of JSON, by index, through broken streams: each once.

        `request.resume_token` moves along: hand the request in again and it goes on from there.
        """
        wait = self.patience.start()
        while True:
            try:
                async for frame in self.feedback.datasets.ExportDataset(request):
                    request.resume_token = frame.resume_token
                    wait = self.patience.start()
                    yield frame.json
            except SelmError as error:
                await wait.after(error)
            else:
                return

    async def watch_feedback(
        self, conditions: pb.FeedbackFilter | None = None
    ) -> AsyncGenerator[pb.FeedbackEvent, None]:
        """Events as they are recorded and decided on, through broken connections, for ever."""
        request = feedback_service_pb2.WatchFeedbackEventsRequest(filter=conditions)
        wait = self.patience.start()
        while True:
            try:
                async for frame in self.feedback.service.WatchFeedbackEvents(request):
                    request.resume_token = frame.resume_token
                    wait = self.patience.start()
                    yield frame.feedback_event
            except SelmError as error:
                await wait.after(error)
            else:
                return


def _about(target: str, event: pb.FeedbackEvent) -> pb.FeedbackEvent:
    if target.startswith("conversations/"):
        event.conversation = target
    else:
        event.generation = target
    return event


def _outcome(result: feedback_service_pb2.FeedbackEventResult, token: str) -> Receipt | SelmError:
    if result.HasField("feedback_event"):
        return Receipt(result.feedback_event, token)
    return _error_of(result.failure)


def _error_of(failure: Failure) -> SelmError:
    name = "INTERNAL"
    if failure.reason in ErrorReason.values() and failure.reason:
        name = ErrorReason.Name(failure.reason).removeprefix("ERROR_REASON_")
    return SelmError(name, failure.message, metadata=dict(failure.metadata))


def _may_pass(outcome: Receipt | SelmError) -> bool:
    return isinstance(outcome, SelmError) and is_outage(outcome)
