"""A stand-in for all four services on one loopback port: the contract's shape, no model, no bus.

It learns like the real ones, from a dictionary, and can be told to fail: what clients must survive.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_status import rpc_status

from selm.api.adapter.v1 import adapter_pb2, adapter_service_pb2, adapter_service_pb2_grpc
from selm.api.feedback.v1 import (
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    learning_pb2,
    learning_service_pb2,
    learning_service_pb2_grpc,
    lesson_pb2,
    lesson_service_pb2,
    lesson_service_pb2_grpc,
)
from selm.api.inference.v1 import (
    generation_pb2,
    inference_service_pb2,
    inference_service_pb2_grpc,
    model_pb2,
    replica_service_pb2,
    replica_service_pb2_grpc,
)
from selm.api.memory.v1 import memory_pb2, memory_service_pb2, memory_service_pb2_grpc
from selm.api.ops.v1 import server_service_pb2, server_service_pb2_grpc
from selm.api.trainer.v1 import (
    trainer_service_pb2,
    trainer_service_pb2_grpc,
    training_job_pb2,
)
from selm.errors import SelmError, Violations, not_found, to_status
from selm.questions import entity_words, missing_words

REVISION = "adapters/default/revisions/r0123456789abcdef"
DIGEST = "ab" * 32
Lesson = lesson_pb2.Lesson
Job = training_job_pb2.TrainingJob


class ScriptedSelm(
    inference_service_pb2_grpc.InferenceServiceServicer,
    replica_service_pb2_grpc.ReplicaServiceServicer,
    memory_service_pb2_grpc.MemoryServiceServicer,
    feedback_service_pb2_grpc.FeedbackServiceServicer,
    lesson_service_pb2_grpc.LessonServiceServicer,
    learning_service_pb2_grpc.LearningServiceServicer,
    trainer_service_pb2_grpc.TrainerServiceServicer,
    adapter_service_pb2_grpc.AdapterServiceServicer,
    server_service_pb2_grpc.ServerServiceServicer,
):
    """All services in one. `remembers` and `trains` switch off what a test wants to see missing."""

    def __init__(self, *, remembers: bool = True, trains: bool = True) -> None:
        self.remembers = remembers
        self.trains = trains
        self.calls: list[tuple[str, Any, dict[str, str]]] = []
        self.failures: Counter[str] = Counter()
        self.break_after_delta = 0
        self.memory_states: list[int] = []
        self.remembered: dict[str, str] = {}
        self.learned: dict[str, str] = {}
        self.asked: dict[str, str] = {}
        self.lessons: dict[str, lesson_pb2.Lesson] = {}
        self.events: dict[str, Any] = {}
        self.num_jobs = 1
        self.job = Job(name="trainingJobs/j1", state=Job.STATE_QUEUED)
        self._lock = threading.Lock()

    def seen(self, method: str) -> list[Any]:
        """Requests of one RPC so far, failed tries included."""
        return [request for name, request, _ in self.calls if name == method]

    def _enter(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        with self._lock:
            self.calls.append((method, request, metadata))
            failing = self.failures[method] > 0
            self.failures[method] -= failing
        if failing:
            self._abort(context, SelmError("DRAINING", "restarting", retry_after_s=0.01))

    def _abort(self, context: grpc.ServicerContext, error: SelmError) -> None:
        context.abort_with_status(rpc_status.to_status(to_status(error, "c0ffee")))

    # --- inference

    def _answer(self, request: Any, context: grpc.ServicerContext) -> generation_pb2.Generation:
        violations = Violations()
        question = request.input.chat.messages[-1].text
        options = request.options
        violations.check(bool(question), "input.chat.messages[0].text", "must not be empty")
        violations.check(
            options.sampling_params.temperature >= 0,
            "options.sampling_params.temperature",
            "must be 0 to 2",
        )
        try:
            violations.raise_if_any()
        except SelmError as error:
            self._abort(context, error)
        name = f"generations/g{len(self.asked)}"
        self.asked[name] = question
        with_memory = options.memory_options.max_use != memory_pb2.MEMORY_USE_NONE
        about_it = (q for q in self.learned if not missing_words(entity_words(q), question))
        in_weights = next(about_it, "")
        state = generation_pb2.MEMORY_STATE_READY
        if self.memory_states:
            state = self.memory_states.pop(0)  # type: ignore[assignment]
        if with_memory and question in self.remembered and not self.learned:
            text, reason = self.remembered[question], generation_pb2.FINISH_REASON_DIRECT_ANSWER
        elif in_weights:
            text, reason = self.learned[in_weights], generation_pb2.FINISH_REASON_STOP
        else:
            text, reason = "I do not know that.", generation_pb2.FINISH_REASON_STOP
        return generation_pb2.Generation(
            name=name,
            memory_state=state,
            candidates=[generation_pb2.Candidate(text=text, finish_reason=reason)],
            resolution=generation_pb2.Resolution(
                adapter_revision=REVISION if in_weights else "",
                sha256=DIGEST if in_weights else "",
                adapter_applied=bool(in_weights),
                adapter_reason=generation_pb2.ADAPTER_REASON_OUT_OF_SCOPE,
            ),
        )

    def Generate(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("Generate", request, context)
        return inference_service_pb2.GenerateResponse(generation=self._answer(request, context))

    def GenerateStream(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("GenerateStream", request, context)
        answer = self._answer(request, context)
        frame = inference_service_pb2.GenerateStreamResponse
        yield frame(
            started=frame.Started(
                generation=answer.name,
                resolution=answer.resolution,
                memory_state=answer.memory_state,
            )
        )
        for word in answer.candidates[0].text.split(" "):
            yield frame(delta=frame.Delta(text=f"{word} "))
            if self.break_after_delta:
                self.break_after_delta -= 1
                self._abort(context, SelmError("DRAINING", "restarting"))
        yield frame(finished=frame.Finished(finish_reasons=[answer.candidates[0].finish_reason]))

    def GetModel(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("GetModel", request, context)
        return inference_service_pb2.GetModelResponse(
            model=model_pb2.Model(name="models/scripted", context_length=64)
        )

    def ListLoadedAdapters(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("ListLoadedAdapters", request, context)
        loaded = model_pb2.LoadedAdapter(adapter_revision=REVISION)
        return replica_service_pb2.ListLoadedAdaptersResponse(loaded_adapters=[loaded])

    # --- memory

    def SearchMemories(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("SearchMemories", request, context)
        response = memory_service_pb2.SearchMemoriesResponse()
        for question, text in self.remembered.items():
            hit = response.hits.add(score=1.0)
            hit.memory.CopyFrom(memory_pb2.Memory(question=question, text=text))
        return response

    def CreateMemory(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("CreateMemory", request, context)
        self.remembered[request.memory.question] = request.memory.text
        memory = memory_pb2.Memory(name=f"{request.parent}/memories/m1", text=request.memory.text)
        return memory_service_pb2.CreateMemoryResponse(memory=memory)

    def DeleteMemory(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("DeleteMemory", request, context)
        return memory_service_pb2.DeleteMemoryResponse()

    # --- feedback

    def CreateFeedbackEvent(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("CreateFeedbackEvent", request, context)
        if request.request_id in self.events:
            return self.events[request.request_id]
        event = request.feedback_event
        if event.generation not in self.asked:
            self._abort(context, not_found(event.generation))
        number = len(self.events)
        event.name = f"feedbackEvents/f{number}"
        if event.HasField("correction"):
            event.lesson = f"lessons/l{number}"
            question = event.correction.question or self.asked[event.generation]
            lesson = Lesson(
                name=event.lesson,
                question=question,
                answer=event.correction.text,
                state=Lesson.STATE_RECEIVED,
            )
            lesson.create_time.GetCurrentTime()
            self.lessons[lesson.name] = lesson
            if self.remembers:
                self.remembered[question] = event.correction.text
                self._step(lesson, Lesson.STATE_REMEMBERED)
        response = feedback_service_pb2.CreateFeedbackEventResponse(
            feedback_event=event, consistency_token=f"t{number}"
        )
        self.events[request.request_id] = response
        return response

    def GetLesson(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("GetLesson", request, context)
        if request.name not in self.lessons:
            self._abort(context, not_found(request.name))
        return lesson_service_pb2.GetLessonResponse(lesson=self.lessons[request.name])

    def WatchLesson(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("WatchLesson", request, context)
        yield lesson_service_pb2.WatchLessonResponse(lesson=self.lessons[request.name])

    def CreateTrainingRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("CreateTrainingRequest", request, context)
        waiting = [x for x in self.lessons.values() if x.state == Lesson.STATE_REMEMBERED]
        if not waiting:
            self._abort(context, SelmError("DATASET_EMPTY", "nothing waits"))
        for lesson in waiting:
            self._step(lesson, Lesson.STATE_QUEUED)
        self.num_jobs += 1
        self.job = Job(name=f"trainingJobs/j{self.num_jobs}", state=Job.STATE_QUEUED)
        return learning_service_pb2.CreateTrainingRequestResponse(
            training_request=self._request(len(waiting))
        )

    def GetTrainingRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("GetTrainingRequest", request, context)
        return learning_service_pb2.GetTrainingRequestResponse(training_request=self._request(0))

    def _request(self, num_lessons: int) -> learning_pb2.TrainingRequest:
        states = {
            Job.STATE_SUCCEEDED: learning_pb2.TrainingRequest.STATE_SUCCEEDED,
            Job.STATE_REJECTED: learning_pb2.TrainingRequest.STATE_REJECTED,
        }
        return learning_pb2.TrainingRequest(
            name="trainingRequests/q1",
            state=states.get(self.job.state, learning_pb2.TrainingRequest.STATE_RUNNING),
            training_job=self.job.name,
            lesson_count=num_lessons,
        )

    def _step(self, lesson: lesson_pb2.Lesson, state: Any, reason: str = "") -> None:
        lesson.state = state
        lesson.transitions.add(state=state, service="scripted", reason=reason)
        lesson.transitions[-1].transition_time.GetCurrentTime()

    # --- trainer

    def WatchTrainingJob(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("WatchTrainingJob", request, context)
        if request.name != self.job.name:
            self._abort(context, not_found(request.name))
        for step in (1, 2):
            self.job.state = Job.STATE_TRAINING
            self.job.progress.step, self.job.progress.total_steps = step, 2
            yield trainer_service_pb2.WatchTrainingJobResponse(training_job=self.job)
            self._enter("WatchTrainingJob.frame", request, context)
        self._finish()
        yield trainer_service_pb2.WatchTrainingJobResponse(training_job=self.job)

    def _finish(self) -> None:
        self.job.state = Job.STATE_SUCCEEDED if self.trains else Job.STATE_REJECTED
        for lesson in self.lessons.values():
            if not self.trains:
                self._step(lesson, Lesson.STATE_REMEMBERED, "the gate said REJECT")
                continue
            self.job.output_revision = REVISION
            self.learned[lesson.question] = lesson.answer
            for state in (Lesson.STATE_TRAINED, Lesson.STATE_VERIFIED, Lesson.STATE_RETIRED):
                self._step(lesson, state)
        if not self.trains:
            self.job.failure.message = "the gate said REJECT"

    def ListTrainingJobs(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("ListTrainingJobs", request, context)
        return trainer_service_pb2.ListTrainingJobsResponse(training_jobs=[self.job])

    def RollbackAdapter(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("RollbackAdapter", request, context)
        if not self.learned:
            error = SelmError("NO_PREVIOUS_REVISION", "there is no revision before")
            self._abort(context, error)
        alias = adapter_pb2.Alias(name=f"{request.name}/aliases/{request.alias_id}", epoch=2)
        return adapter_service_pb2.RollbackAdapterResponse(alias=alias)

    # --- all

    def GetServerInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._enter("GetServerInfo", request, context)
        info = server_service_pb2.ServerInfo(service="scripted", version="1")
        info.checks.add(check="nats", passed=True)
        return server_service_pb2.GetServerInfoResponse(server_info=info)


class RunningSelm:
    """`with RunningSelm(ScriptedSelm()) as selm: selm.address`."""

    def __init__(self, script: ScriptedSelm) -> None:
        self.script = script
        self._server = grpc.server(ThreadPoolExecutor(8))
        for module in (
            inference_service_pb2_grpc,
            replica_service_pb2_grpc,
            memory_service_pb2_grpc,
            feedback_service_pb2_grpc,
            lesson_service_pb2_grpc,
            learning_service_pb2_grpc,
            trainer_service_pb2_grpc,
            adapter_service_pb2_grpc,
            server_service_pb2_grpc,
        ):
            add = next(getattr(module, name) for name in dir(module) if name.startswith("add_"))
            add(script, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> "RunningSelm":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    @property
    def addresses(self) -> dict[str, str]:
        """Arguments of SelmClient."""
        return dict.fromkeys(("inference", "memory", "feedback", "trainer"), self.address)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the command line."""
        return {f"SELM_{name.upper()}_TARGET": self.address for name in self.addresses}
