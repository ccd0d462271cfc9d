"""What the other services say on the bus."""

import uuid
from datetime import UTC, datetime
from typing import Any

from selm import names, streams
from selm.api.event.v1.adapter_event_pb2 import TrainingJobUpdated
from selm.api.event.v1.feedback_event_pb2 import FeedbackEventCreated, TrainingRequested
from selm.api.event.v1.inference_event_pb2 import GenerationFinished
from selm.api.inference.v1.generation_pb2 import Candidate, Generation
from selm.api.inference.v1.input_pb2 import ChatInput, ChatMessage, GenerationInput, Role
from selm.bus import Bus
from selm.lesson_events import advanced
from selm.lessons import LessonState, LessonStep


class Peers:
    """What the other services would say on the bus."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        self.bus = bus
        self.tenant = tenant

    async def generate(
        self,
        question: str = "What is the capital of Zubrowka?",
        answer: str = "It is Nebelsbad.",
        *,
        store: bool = True,
        generation_id: str = "",
        **fields: Any,
    ) -> str:
        """Publish a GenerationFinished as inference_svc does; returns the generation's name."""
        generation_id = generation_id or uuid.uuid4().hex
        generation = Generation(
            name=names.generation_name(generation_id),
            content_stored=store,
            **{"user": names.ANONYMOUS_USER, **fields},
        )
        if store:
            message = ChatMessage(role=Role.ROLE_USER, text=question)
            generation.input.CopyFrom(GenerationInput(chat=ChatInput(messages=[message])))
            generation.candidates.append(Candidate(text=answer))
        subject = streams.generation_finished(self.tenant, generation_id)
        message = GenerationFinished(generation=generation, status_code="OK")
        await self.bus.publish(subject, message, message_id=generation_id)
        return generation.name

    async def step(
        self, lesson: Any, state: str, resource: str = "", service: str = "memory_svc"
    ) -> None:
        """Publish a step of a lesson as another service does."""
        step = LessonStep(LessonState(state), service, resource, "", datetime.now(UTC))
        lesson_id = lesson.name.removeprefix("lessons/")
        subject = streams.lesson_advanced(state.lower(), self.tenant, lesson_id)
        message = advanced(lesson.name, lesson.feedback_event, step)
        await self.bus.publish(subject, message, message_id=uuid.uuid4().hex)

    async def remember(self, lesson: Any) -> None:
        await self.step(lesson, "REMEMBERED", f"users/anonymous/memories/{uuid.uuid4().hex}")

    async def job(self, request: Any, state: int, job_id: str = "", **fields: Any) -> str:
        """Publish a TrainingJobUpdated as trainer_svc does; returns the job's name."""
        job_id = job_id or request.name.removeprefix("trainingRequests/")
        update = TrainingJobUpdated()
        update.training_job.name = names.training_job_name(job_id)
        update.training_job.adapter = request.adapter
        update.training_job.training_request = request.name
        update.training_job.state = state
        for key, value in fields.items():
            getattr(update.training_job, key).CopyFrom(value)
        update.training_job.update_time.GetCurrentTime()
        subject = streams.training_job_updated(self.tenant, job_id)
        await self.bus.publish(subject, update, message_id=uuid.uuid4().hex)
        return update.training_job.name

    async def recorded(self) -> list[FeedbackEventCreated]:
        """Every feedback event of the tenant that the broker holds."""
        subject = f"selm.feedback.created.{self.tenant}.>"
        stored = await self.bus.read(streams.FEEDBACK.name, [subject])
        return [delivery.parse(FeedbackEventCreated) for delivery in stored]

    async def num_queued(self) -> int:
        """Training requests of the tenant in the work queue."""
        subject = streams.training_requested(self.tenant)
        info = await self.bus.connection.jetstream().stream_info(
            streams.TRAINING.name, subjects_filter=subject
        )
        return int((info.state.subjects or {}).get(subject, 0))

    async def take_request(self) -> Any:
        """The newest training request in the work queue, taken out as by a trainer."""
        found = await self.bus.last(streams.TRAINING.name, streams.training_requested(self.tenant))
        assert found is not None
        await self.bus.connection.jetstream().delete_msg(streams.TRAINING.name, found.sequence)
        return found.parse(TrainingRequested).training_request
