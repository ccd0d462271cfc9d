"""The Python client: one object, four areas with the generated stubs, typed errors, plain verbs.

Does not know the services' insides; everything here goes over the published contract.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from selm.api.adapter.v1 import adapter_pb2, adapter_service_pb2
from selm.api.feedback.v1 import (
    learning_pb2,
    learning_service_pb2,
    lesson_pb2,
    lesson_service_pb2,
)
from selm.api.inference.v1 import (
    inference_service_pb2,
)
from selm.api.ops.v1 import server_service_pb2
from selm.api.trainer.v1 import (
    trainer_service_pb2,
    training_job_pb2,
)
from selm.client_answer import Answer, AnswerStream, Ask
from selm.client_areas import FeedbackArea, InferenceArea, MemoryArea, TrainerArea
from selm.client_channel import new_request_id, open_channel
from selm.client_feedback import FeedbackVerbs, Receipt
from selm.client_retry import Patience
from selm.names import DEFAULT_ADAPTER
from selm.settings import SharedSettings

__all__ = ["FINAL_JOB_STATES", "Receipt", "SelmClient"]

FINAL_JOB_STATES = frozenset(
    {
        training_job_pb2.TrainingJob.STATE_SUCCEEDED,
        training_job_pb2.TrainingJob.STATE_REJECTED,
        training_job_pb2.TrainingJob.STATE_FAILED,
        training_job_pb2.TrainingJob.STATE_CANCELLED,
    }
)


class SelmClient(FeedbackVerbs):
    """`async with SelmClient() as selm: answer = await selm.chat("...")`.

    Every failed call raises selm.errors.SelmError. UNAVAILABLE is repeated for `patience_s` where
    that is safe: reads, writes with a request_id (made here), and answers before their first text.
    """

    def __init__(
        self,
        *,
        inference: str = "127.0.0.1:50051",
        memory: str = "127.0.0.1:50052",
        feedback: str = "127.0.0.1:50053",
        trainer: str = "127.0.0.1:50054",
        tenant: str | None = None,
        patience_s: float = 10.0,
        timeout_s: float = 60.0,
    ) -> None:
        self._addresses = (inference, memory, feedback, trainer)
        self._metadata = [("x-selm-tenant", tenant)] if tenant else []
        self._timeout_s = timeout_s
        self._resources = AsyncExitStack()
        self.patience = Patience(patience_s)

    @classmethod
    def from_settings(
        cls, settings: SharedSettings, *, tenant: str | None = None, patience_s: float = 10.0
    ) -> Self:
        """A client of the four addresses in `SELM_<SERVICE>_TARGET`."""
        return cls(
            inference=settings.inference_target,
            memory=settings.memory_target,
            feedback=settings.feedback_target,
            trainer=settings.trainer_target,
            tenant=tenant,
            patience_s=patience_s,
        )

    async def __aenter__(self) -> Self:
        inference, memory, feedback, trainer = [
            await self._resources.enter_async_context(
                open_channel(address, self._metadata, self._timeout_s)
            )
            for address in self._addresses
        ]
        self.inference = InferenceArea(inference)
        self.memory = MemoryArea(memory)
        self.feedback = FeedbackArea(feedback)
        self.trainer = TrainerArea(trainer)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._resources.aclose()

    async def chat(self, text: str, ask: Ask | None = None) -> Answer:
        """One whole answer."""
        request = (ask or Ask()).request(text)
        unary = inference_service_pb2.GenerateRequest(input=request.input, options=request.options)
        response = await self.patience.through(lambda: self.inference.service.Generate(unary))
        return Answer.of_generation(response.generation)

    def stream(self, text: str, ask: Ask | None = None) -> AnswerStream:
        """The answer as it is made: `async for piece in selm.stream("..."): ...`."""
        return AnswerStream(self.inference.service, (ask or Ask()).request(text), self.patience)

    async def request_training(
        self, adapter: str = DEFAULT_ADAPTER, *, from_base: bool = False, reason: str = ""
    ) -> learning_pb2.TrainingRequest:
        """Asks to learn now what waits; see its training_job once a trainer holds it."""
        request = learning_service_pb2.CreateTrainingRequestRequest(
            training_request=learning_pb2.TrainingRequest(
                adapter=adapter, from_base=from_base, reason=reason
            ),
            request_id=new_request_id(),
        )
        response = await self.patience.through(
            lambda: self.feedback.learning.CreateTrainingRequest(request)
        )
        return response.training_request

    async def watch_job(self, name: str) -> AsyncGenerator[training_job_pb2.TrainingJob, None]:
        """The job now and at every change, through broken connections, until it is final."""
        request = trainer_service_pb2.WatchTrainingJobRequest(name=name)
        frames = self.patience.watching(
            lambda: aiter(self.trainer.service.WatchTrainingJob(request))
        )
        async for frame in frames:
            yield frame.training_job
            if frame.training_job.state in FINAL_JOB_STATES:
                return

    async def watch_lesson(self, name: str) -> AsyncGenerator[lesson_pb2.Lesson, None]:
        """The lesson now and at every step, through broken connections, until its last step."""
        request = lesson_service_pb2.WatchLessonRequest(name=name)
        frames = self.patience.watching(lambda: aiter(self.feedback.lessons.WatchLesson(request)))
        async for frame in frames:
            yield frame.lesson

    async def rollback(
        self, adapter: str = DEFAULT_ADAPTER, alias_id: str = "stable", *, reason: str = ""
    ) -> adapter_pb2.Alias:
        """Takes an alias back to the revision before; its lessons return to memory."""
        request = adapter_service_pb2.RollbackAdapterRequest(
            name=adapter, alias_id=alias_id, reason=reason, request_id=new_request_id()
        )
        response = await self.patience.through(
            lambda: self.trainer.adapters.RollbackAdapter(request)
        )
        return response.alias

    async def server_infos(self) -> list[server_service_pb2.ServerInfo]:
        """What the four processes say about themselves."""
        request = server_service_pb2.GetServerInfoRequest()
        areas = (self.inference, self.memory, self.feedback, self.trainer)
        return [(await area.server.GetServerInfo(request)).server_info for area in areas]
